/** A source that could not give what it is for. The message says what was found and what was wanted, never a secret. */
export class SourceFailed extends Error {
  override readonly name = 'SourceFailed'
  readonly code = 'ERR_SOURCE_FAILED'
}

/** Whether a failure is told already by the one before: where in a document it lies differs with each token. */
export function isSameFailure(said: string, before: string | undefined): boolean {
  const place = / at offset \d+$/
  return said.replace(place, '') === before?.replace(place, '')
}
