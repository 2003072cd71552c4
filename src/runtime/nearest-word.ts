/** The candidate that a mistyped word most likely meant (a slip, or only its beginning); `undefined` when none is near. */
export function nearestWord (word: string, candidates: Iterable<string>): string | undefined {
  const typed = word.toLowerCase()
  let best: { readonly candidate: string, readonly distance: number } | undefined
  for (const candidate of candidates) {
    const cut = typed.length >= 3 && candidate.toLowerCase().startsWith(typed)
    const distance = cut ? 0.5 : editDistance(typed, candidate.toLowerCase())
    const limit = Math.max(1, Math.floor(Math.max(typed.length, candidate.length) / 3))
    if (distance <= limit && (best === undefined || distance < best.distance)) best = { candidate, distance }
  }
  return best?.candidate
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance (a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      let distance = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + cost)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) distance = Math.min(distance, at(beforeLast, j - 2) + 1)
      row.push(distance)
    }
    beforeLast = last
    last = row
  }
  return at(last, b.length)
}

function at (row: readonly number[], index: number): number {
  return row[index] ?? Infinity
}
