import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

type Collect = (options: { readonly type: 'major', readonly execution: 'sync', readonly flavor: 'last-resort' }) => void

/**
 * Gives back what reading something large has left: Node would keep the heap as large as it was then. All waits meanwhile, some 150 ms for
 * a hundred MiB, so this is for a start, before anybody asks.
 */
export function releaseMemory (): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as Collect
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}
