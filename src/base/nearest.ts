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
    const distance = mistakes(word, known)
    if (distance <= most && distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function fold(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, '')
}

/** Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, each counting one. */
function mistakes(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(before, j - 2) + 1)
      row.push(least)
    }
    before = last
    last = row
  }
  return at(last, b.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY
}
