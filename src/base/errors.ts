// What may be told of something that was thrown: its words and its code, and no cause. And what is thrown where nothing is.

/** The code of a system error, such as `ENOENT`; `unknown error` where there is none. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error'
}

/** The message of an error; `unknown error` for what is none. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown error'
}

/** An error as one sentence, with its name: for one that nobody has foreseen. */
export function sentenceOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : 'unknown error'
}

/**
 * The end of a `switch` over a union: the compiler sees to it that nothing gets here.
 *
 * @throws TypeError without the value, which may be a secret.
 */
export function unreachable(_value: never): never {
  throw new TypeError('Cannot go on: a value is of a kind that its type does not have')
}
