import type { Terminal } from './terminal.ts'

export interface Progress extends Disposable {
  show (done: number): void
}

export interface StatusLine extends Disposable {
  show (text: string): void
}

/** Longer lines could wrap, and a wrapped line cannot be overwritten. */
const longestLine = 79

/** One line on standard error that is overwritten by the next; nothing where nobody watches. */
export function openStatusLine ({ interactive, err }: Terminal): StatusLine {
  let shown = false
  return {
    show (text) {
      if (!interactive) return
      shown = true
      err(`\r\u001B[K${text.length > longestLine ? `${text.slice(0, longestLine - 1)}…` : text}`)
    },
    [Symbol.dispose] () {
      if (shown) err('\r\u001B[K')
    }
  }
}

/** A line on standard error that overwrites itself; nothing where nobody watches or where the work is one step. */
export function openProgress (terminal: Terminal, total: number | undefined, what: string): Progress {
  const line = openStatusLine(terminal)
  let shown = false
  return {
    show (done) {
      if (total !== undefined && done >= total && !shown) return
      shown = true
      line.show(`${done}${total === undefined ? '' : ` of ${total}`} ${what}`)
    },
    [Symbol.dispose]: () => line[Symbol.dispose]()
  }
}

/** Of work in several steps, one line after the other. */
export interface StepProgress extends Disposable {
  /** @param what is done with how many, such as `rows written` */
  readonly show: (what: string, done: number, total: number | undefined) => void
}

export function openStepProgress (terminal: Terminal): StepProgress {
  let open: { readonly what: string, readonly progress: Progress } | undefined
  return {
    show (what, done, total) {
      if (open?.what !== what) {
        open?.progress[Symbol.dispose]()
        open = { what, progress: openProgress(terminal, total, what) }
      }
      open.progress.show(done)
    },
    [Symbol.dispose] () { open?.progress[Symbol.dispose]() }
  }
}
