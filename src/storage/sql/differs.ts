/** Whether writing these columns to the row would change it: what would not is no change, and takes no number of the log. */
export function differs (row: object, columns: object): boolean {
  return Object.entries(columns).some(([name, value]) => !isSame((row as Record<string, unknown>)[name], value))
}

function isSame (a: unknown, b: unknown): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0
  return a === b
}
