import { setTimeout } from 'node:timers/promises'

const patienceMs = 10_000

/**
 * What a process wrote last may be read after its exit; a child of its own may hold the pipes open for good.
 * @param closed its `close`, waited for since before its exit
 */
export async function lastWords (closed: Promise<unknown>): Promise<void> {
  await Promise.race([closed, setTimeout(patienceMs, undefined, { ref: false })])
}
