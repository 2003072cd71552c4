/** The upper of the two in the middle when there are two. */
export function median (values: readonly number[]): number {
  return percentile(values, 50)
}

/** @param p 0 to 100 */
export function percentile (values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p / 100))] ?? Number.NaN
}
