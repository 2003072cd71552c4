import { chmod, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { holdNamespace } from '../../src/cli/demo/namespace-holder.ts'
import { ManagedProcess } from '../../src/cli/demo/managed-process.ts'
import type { Workspace } from '../../src/cli/demo/workspace.ts'
import { freePort } from '../../test/fakes/free-port.ts'
import { runShell, shellWords, type ShellOutcome } from './shell.ts'
import type { Transcript } from './transcript.ts'
import { wrapCommand } from './wrap-command.ts'

/** Generous: a lab shall not fail because its machine is busy. */
const commandTimeoutMs = 600_000
const pauseMs = 200
const repository = join(import.meta.dirname, '../..')

export interface StageOptions {
  readonly workspace: Workspace
  readonly transcript: Transcript
  readonly signal: AbortSignal
  /** For all commands. */
  readonly variables: ReadonlyMap<string, string>
}

/** What a lab acts on: a folder in which its commands run, and processes that end with it. Whatever happens is printed. */
export class Stage implements AsyncDisposable {
  readonly #workspace: Workspace
  readonly #transcript: Transcript
  readonly #signal: AbortSignal
  readonly #variables: Map<string, string>
  readonly #scope = new AsyncDisposableStack()
  /** Those that must not end by themselves. */
  readonly #expected = new Set<ManagedProcess>()
  readonly #running = new Set<ManagedProcess>()
  readonly #processes: ManagedProcess[] = []
  #checks = 0

  constructor ({ workspace, transcript, signal, variables }: StageOptions) {
    this.#workspace = workspace
    this.#transcript = transcript
    this.#signal = signal
    this.#variables = new Map(variables)
  }

  /** Where commands run; absolute. */
  get folder (): string { return this.#workspace.folder }
  get signal (): AbortSignal { return this.#signal }
  get processes (): readonly ManagedProcess[] { return this.#processes }
  /** How many have held. */
  get checks (): number { return this.#checks }

  /** @param title what is shown next; the heading of a part of the page */
  step (title: string): void { this.#transcript.begin(title) }

  /** A remark for whoever watches. */
  say (text: string): void { this.#transcript.print(text.split('\n').map(line => `# ${line}`).join('\n')) }

  /** A variable for all commands from now on. */
  set (name: string, value: string): void {
    this.setUnshown(name, value)
    this.#transcript.print(`$ export ${name}=${/^[\w./:@%+-]*$/.test(value) ? value : `"${value}"`}`)
  }

  /** The same where what it is depends on who runs the lab. */
  setUnshown (name: string, value: string): void { this.#variables.set(name, value) }

  /** A free port of this machine, as a variable. @returns it */
  async port (name: string): Promise<number> {
    const port = await freePort()
    this.set(name, `${port}`)
    return port
  }

  /** A file in the folder, shown as `cat` would. */
  async write (name: string, text: string): Promise<void> {
    await writeFile(join(this.folder, name), text)
    this.#transcript.print(`$ cat ${name}\n${text}`)
  }

  /**
   * One line for bash.
   * @param options.status with which it must end; a lesson about a refusal expects another one than 0
   * @returns what it printed on either stream
   */
  async run (line: string, { status = 0 }: { readonly status?: number } = {}): Promise<string> {
    this.#transcript.print(`$ ${wrapCommand(line)}`)
    const outcome = await this.#bash(line)
    this.#transcript.print(outcome.output)
    if (outcome.status !== status) throw new Error(`exit status ${outcome.status} instead of ${status} of: ${line}`)
    return outcome.output
  }

  /** The same without a trace, to look at something for a check. */
  async look (line: string): Promise<string> {
    const { status, output } = await this.#bash(line)
    if (status !== 0) throw new Error(`exit status ${status} of: ${line}\n${output}`)
    return output
  }

  /**
   * Repeats a line until what it prints has the pattern, and shows the last time. Its exit status does not matter.
   * @param what for the remark beside it: `# repeated until …`
   */
  async until (what: string, line: string, pattern: RegExp, timeoutMs = commandTimeoutMs): Promise<string> {
    const end = performance.now() + timeoutMs
    for (;;) {
      const { output } = await this.#bash(line)
      if (pattern.test(output)) {
        this.#transcript.print(`$ ${wrapCommand(line)}    # repeated until ${what}\n${output}`)
        return output
      }
      this.#throwIfEnded()
      if (performance.now() > end) throw new Error(`waited ${timeoutMs / 1_000} s until ${what}; the last time ${line} printed:\n${output}`)
      await sleep(pauseMs, undefined, { signal: this.#signal })
    }
  }

  /** A line that goes on in the background until it is ended, or the lab is over. Its output goes to `logs/NAME.log`. */
  start (name: string, line: string): ManagedProcess {
    this.#signal.throwIfAborted()
    this.#transcript.print(`$ ${wrapCommand(`${line} &`)}`)
    const process = new ManagedProcess({
      name, command: shellWords(`exec ${line}`, this.folder, this.#variables), logFile: join(this.#workspace.logs, `${name}.log`)
    })
    this.#scope.defer(() => this.#end(process))
    this.#processes.push(process)
    this.#running.add(process)
    this.#expected.add(process)
    return process
  }

  /** The same, once it has logged that it is up. @param says part of the line */
  async startUntil (says: string, name: string, line: string): Promise<ManagedProcess> {
    const process = this.start(name, line)
    await process.line(says, text => text.includes(says) || undefined, commandTimeoutMs)
    return process
  }

  /** Ends a process in order, as `kill` and `wait` would. */
  async stop (process: ManagedProcess): Promise<void> {
    this.#transcript.print(`$ kill %${process.name}; wait`)
    await this.#end(process)
  }

  /** As a crash would. */
  async crash (process: ManagedProcess): Promise<void> {
    this.#transcript.print(`$ kill -9 %${process.name}`)
    this.#expected.delete(process)
    process.kill()
    await this.#end(process)
  }

  /** Says that something holds, or ends the lab. @param seen what was seen instead */
  check (claim: string, holds: boolean, seen = ''): void {
    if (!holds) throw new Error(`does not hold: ${claim}${seen === '' ? '' : `\n${seen.trimEnd()}`}`)
    this.#checks++
    this.#transcript.print(`ok: ${claim}`)
  }

  /** The same for a text that must have a pattern. */
  checkMatch (claim: string, text: string, pattern: RegExp): void {
    this.check(claim, pattern.test(text), `${String(pattern)} is not in:\n${text}`)
  }

  /** A network namespace; it takes root. @param variable words that make a command run in it; one more with `_PID`: its process */
  async namespace (variable: string): Promise<void> {
    const { holder, enter } = await holdNamespace(variable, this.#workspace.logs, this.#scope)
    this.set(variable, enter.join(' '))
    this.set(`${variable}_PID`, `${holder.pid}`)
  }

  /** Something of the repository, in the folder. */
  async link (path: string): Promise<void> {
    await symlink(join(repository, path), join(this.folder, basename(path)))
    this.#transcript.print(`$ ln -s $ASSAY/${path} .`)
  }

  /** Lets other users pass through the folder, as a program that must not run as root has to; nobody can list it. */
  async openFolder (): Promise<void> { await chmod(this.folder, 0o711) }

  /** Runs when the lab is over, however it ends; before that, whatever was started later ends. */
  defer (work: () => Promise<void> | void): void { this.#scope.defer(work) }

  [Symbol.asyncDispose] (): Promise<void> {
    this.#expected.clear()
    return this.#scope.disposeAsync()
  }

  async #end (process: ManagedProcess): Promise<void> {
    this.#expected.delete(process)
    if (this.#running.delete(process)) await process[Symbol.asyncDispose]()
  }

  #bash (line: string): Promise<ShellOutcome> {
    return runShell(shellWords(`exec 2>&1\n${line}`, this.folder, this.#variables), { signal: this.#signal, timeoutMs: commandTimeoutMs })
  }

  #throwIfEnded (): void {
    const ended = [...this.#expected].find(({ running }) => !running)
    if (ended !== undefined) throw new Error(`${ended.name} has ended:\n${ended.tail.join('\n')}`)
  }
}
