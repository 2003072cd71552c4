import type { Terminal } from './terminal.ts'

export interface Progress extends Disposable {
  show (done: number): void
}

/** A line on standard error that overwrites itself; nothing where nobody watches or where the work is one step. */
export function openProgress ({ interactive, err }: Terminal, total: number | undefined, what: string): Progress {
  let shown = false
  return {
    show (done) {
      if (!interactive || (total !== undefined && done >= total && !shown)) return
      shown = true
      err(`\r${done}${total === undefined ? '' : ` of ${total}`} ${what}`)
    },
    [Symbol.dispose] () {
      if (shown) err('\r\u001B[K')
    }
  }
}
