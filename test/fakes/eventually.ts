/**
 * Polls until the condition holds; for facts that another process or the kernel brings about. Throws after `withinMs`.
 * @param what a function tells what is known by then
 */
export async function eventually (
  what: string | (() => string), condition: () => boolean | Promise<boolean>, withinMs = 30_000
): Promise<void> {
  const end = performance.now() + withinMs
  while (!await condition()) {
    if (performance.now() > end) throw new Error(`did not happen within ${withinMs} ms: ${typeof what === 'string' ? what : what()}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
