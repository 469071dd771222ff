/** The same text as a string of its own: a slice keeps the whole head, page or token in memory that it was cut from. */
export function copyOf(text: string): string {
  // Holds what Latin-1 holds, and JSON; for ASCII it takes as long as Latin-1 does.
  return Buffer.from(text, 'utf8').toString('utf8')
}
