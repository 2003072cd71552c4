/** The first value, after which the source is told to end; `undefined` when it ends without one. */
export async function firstOf<T> (values: AsyncIterable<T>): Promise<T | undefined> {
  for await (const value of values) return value
  return undefined
}
