import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'

export interface ShellOptions {
  readonly uid?: number
  readonly gid?: number
  /** Words before `/bin/bash`, e.g. `unshare --net --`. They must execute what follows, not start it. */
  readonly within?: readonly string[]
}

/** A process of its own that does as it is told, line by line; ends when disposed, without the programs it started. */
export class Shell implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: AsyncIterator<string>

  private constructor (child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  }

  static async start ({ uid, gid, within = [] }: ShellOptions = {}): Promise<Shell> {
    const loop = 'exec 2>&1; while IFS= read -r line; do eval "$line"; echo "done $?"; done'
    const user = uid === undefined ? {} : { uid, gid: gid ?? uid }
    const child = spawn('env', [...within, '/bin/bash', '--norc', '-c', loop], { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'], ...user })
    await once(child, 'spawn')
    const shell = new Shell(child)
    await shell.run('true')
    return shell
  }

  get pid (): number { return this.#child.pid as number }

  /** What the command wrote, to either stream; one that fails is an error. */
  async run (command: string): Promise<string> {
    this.#child.stdin.write(`${command}\n`)
    const lines = []
    for (;;) {
      const { value, done } = await this.#lines.next()
      if (done === true) throw new Error(`the shell ended at: ${command}`)
      const status = /^done (\d+)$/.exec(value)?.[1]
      if (status === undefined) lines.push(value)
      else if (status === '0') return lines.join('\n')
      else throw new Error(`status ${status}: ${command}\n${lines.join('\n')}`)
    }
  }

  async end (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exit
  }

  [Symbol.asyncDispose] (): Promise<void> { return this.end() }
}
