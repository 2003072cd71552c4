import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const accomplice = join(import.meta.dirname, 'accomplice.ts')

export interface Started extends AsyncDisposable {
  /** The next line it, or the process it left behind, prints. */
  answer (): Promise<unknown>
  go (): void
  ended (): Promise<void>
}

/** Runs `accomplice.ts`, which says what the words mean. */
export function startCaller (socket: string, ...words: string[]): Started {
  const child = spawn(process.execPath, [accomplice, socket, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_NO_WARNINGS: '1' }
  })
  const exit = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  let heir: number | undefined
  return {
    async answer () {
      const { value, done } = await lines.next()
      if (done === true) throw new Error('the caller ended without an answer')
      const line = JSON.parse(value) as { heir?: number }
      if (line.heir !== undefined) heir = line.heir
      return line
    },
    go () { process.kill(heir as number, 'SIGUSR2') },
    async ended () { await exit },
    async [Symbol.asyncDispose] () {
      end(child)
      if (heir !== undefined) endPid(heir)
      await exit
    }
  }
}

export function end (child: ChildProcess): void { if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL') }

function endPid (pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch { /* it has ended */ }
}
