/**
 * Finds the known name a misspelt one most likely stands for.
 *
 * @returns The candidate with the fewest typing mistakes, counting case, `-` and `_` as none, the first among equals;
 *   undefined when even the best shares too little to be a guess worth printing.
 */
export function nearest(written: string, candidates: Iterable<string>): string | undefined {
  const word = fold(written)
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const known = fold(candidate)
    const longest = Math.max(word.length, known.length)
    // A third of the word: "scpoes" is scopes, "host" is not path. 64: nobody misspells a longer key, and the cost is its square.
    const most = Math.min(Math.max(1, Math.floor(longest / 3)), longest - 1)
    if (longest > 64 || Math.abs(word.length - known.length) > most) continue
    if (strangers(word, known) > most) continue
    const distance = mistakes(word, known, most)
    if (distance <= most && distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function fold(name: string): string {
  const lower = name.toLowerCase()
  return lower.includes('-') || lower.includes('_') ? lower.replaceAll(/[-_]/g, '') : lower
}

/** How many letters of one word the other has nowhere: each is a mistake, and they are counted with less ado. */
function strangers(a: string, b: string): number {
  let count = 0
  for (let at = 0; at < a.length; at += 1) if (!b.includes(a.charAt(at))) count += 1
  return count
}

/**
 * Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, each counting one. Above `most`
 * any number above it: files have a hundred thousand keys, and nearly all of them are like none.
 */
function mistakes(a: string, b: string, most: number): number {
  const over = most + 1
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, at) => at)
  let leastOfLast = 0
  for (let i = 1; i <= a.length; i += 1) {
    // Farther from the diagonal there are more mistakes than that.
    const [from, to] = [Math.max(1, i - most), Math.min(b.length, i + most)]
    const row: number[] = []
    row[from - 1] = from === 1 ? i : over
    let leastOfRow = at(row, from - 1)
    for (let j = from; j <= to; j += 1) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(before, j - 2) + 1)
      row[j] = least
      leastOfRow = Math.min(leastOfRow, least)
    }
    if (leastOfRow > most && leastOfLast > most) return over
    before = last
    last = row
    leastOfLast = leastOfRow
  }
  return at(last, b.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY
}
