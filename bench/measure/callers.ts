/** Does `count` things, each caller one after the other. */
export async function withCallers (callers: number, count: number, step: (index: number) => Promise<void>): Promise<void> {
  let next = 0
  await Promise.all(Array.from({ length: callers }, async () => {
    while (next < count) await step(next++)
  }))
}
