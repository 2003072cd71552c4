import { Worker } from 'node:worker_threads'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Clock } from '../../runtime/clock.ts'
import { Stay } from './stay.ts'
import type { LoadedModule, ThreadAnswer, ThreadGreeting, ThreadSetup, ThreadTask } from './thread-messages.ts'

export interface EvaluationLimits {
  /** Threads that evaluate; each holds every module and its data. */
  readonly threads: number
  /** Of one evaluation, from its begin; it is ended a quarter later, or after a little more where the machine stood still meanwhile. */
  readonly timeoutMs: number
  /** Most WebAssembly memory of one module in one thread, in MiB. */
  readonly memoryMb: number
  /** Evaluations that wait for a thread; more are refused. */
  readonly maxWaiting: number
}

interface Job {
  readonly task: ThreadTask
  readonly resolve: (text: string) => void
  readonly reject: (error: SpiffeError) => void
  readonly signal: AbortSignal | undefined
}

/** A batch costs one message each way, however many are in it. */
const maxBatch = 16
/** For reading modules and data, which may be large. */
const startTimeoutMs = 30_000
const mebibyte = 1024 * 1024

/** Threads that evaluate the same modules. A thread that takes too long or dies is replaced; what waited behind is asked again. */
export class EvaluationPool implements AsyncDisposable {
  /** Of each module: path → number. */
  readonly entrypoints: ReadonlyArray<ReadonlyMap<string, number>>
  readonly #modules: readonly LoadedModule[]
  readonly #limits: EvaluationLimits
  readonly #clock: Clock
  readonly #slots: Slot[] = []
  readonly #waiting: Job[] = []
  readonly #stop = new AbortController()
  #closing: Promise<void> | undefined
  #idle: (() => void) | undefined

  private constructor (modules: readonly LoadedModule[], limits: EvaluationLimits, clock: Clock, first: Thread) {
    this.#modules = modules
    this.#limits = limits
    this.#clock = clock
    this.entrypoints = first.entrypoints
    for (let index = 0; index < limits.threads; index++) {
      const slot = new Slot()
      this.#slots.push(slot)
      if (index === 0) this.#occupy(slot, first)
      else void this.#replace(slot)
    }
  }

  /** @throws {SpiffeError} `rego_bundle_invalid` when a module cannot be used at all */
  static async open (modules: readonly LoadedModule[], limits: EvaluationLimits, clock: Clock,
    signal: AbortSignal): Promise<EvaluationPool> {
    return new EvaluationPool(modules, limits, clock, await startThread(modules, limits, clock, signal))
  }

  /**
   * @param signal when it aborts the evaluation takes no place in the queue any more; one that runs is not ended by it
   * @returns OPA's result set, as JSON text
   * @throws {SpiffeError} `rego_timeout`, `rego_evaluation_failed`, `server_overloaded`, `server_stopping`, or the signal's reason
   */
  evaluate (task: ThreadTask, signal?: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#closing !== undefined) return reject(new SpiffeError('server_stopping', 'the policy is no longer in use'))
      if (this.#waiting.length >= this.#limits.maxWaiting) {
        return reject(new SpiffeError('server_overloaded', `${this.#limits.maxWaiting} evaluations of Rego wait already`))
      }
      if (signal?.aborted === true) return reject(signal.reason)
      const job: Job = { task, resolve, reject, signal }
      signal?.addEventListener('abort', () => this.#forget(job), { once: true })
      this.#waiting.push(job)
      const slot = this.#slots.find(({ thread, running }) => thread !== undefined && running.length === 0)
      if (slot !== undefined) this.#feed(slot)
    })
  }

  /** What runs or waits gets its answer first. */
  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  #forget (job: Job): void {
    const position = this.#waiting.indexOf(job)
    if (position >= 0) this.#waiting.splice(position, 1)
    job.reject(job.signal?.reason)
    if (this.#waiting.length === 0) this.#idle?.()
  }

  async #close (): Promise<void> {
    while (this.#waiting.length > 0 || this.#slots.some(({ running }) => running.length > 0)) {
      await new Promise<void>(resolve => { this.#idle = resolve })
    }
    this.#stop.abort(new SpiffeError('server_stopping', 'the policy is no longer in use'))
    await Promise.all(this.#slots.flatMap(({ thread }) => thread === undefined ? [] : [thread.worker.terminate()]))
  }

  #feed (slot: Slot): void {
    const { thread } = slot
    if (thread === undefined) return
    // Shared among the threads that have nothing to do.
    const free = this.#slots.filter(({ thread, running }) => thread !== undefined && running.length === 0).length
    slot.running = this.#waiting.splice(0, Math.min(maxBatch, Math.ceil(this.#waiting.length / Math.max(1, free))))
    if (slot.running.length === 0) return this.#idle?.()
    slot.firstBegun = Atomics.load(thread.progress, 0)
    thread.worker.postMessage(slot.running.map(({ task }) => task), [])
    void this.#guard(slot)
  }

  /** Looks four times in each time limit whether the thread has gone on. One guard for as long as a thread is busy. */
  async #guard (slot: Slot): Promise<void> {
    if (slot.guarded) return
    slot.guarded = true
    while (slot.running.length > 0 && slot.thread !== undefined) {
      const { thread } = slot
      const [begun, ended] = [Atomics.load(thread.progress, 0), Atomics.load(thread.progress, 1)]
      if (thread.stay.look({ begun, ended }, this.#clock.monotonicMs()) >= this.#limits.timeoutMs) {
        slot.guarded = false
        const error = new SpiffeError('rego_timeout', `the evaluation took longer than ${this.#limits.timeoutMs} ms`)
        return this.#lose(slot, thread, error)
      }
      await this.#clock.sleep(this.#limits.timeoutMs / 4)
    }
    slot.guarded = false
  }

  #answered (slot: Slot, answers: readonly ThreadAnswer[]): void {
    const jobs = slot.running
    slot.running = []
    for (const [index, job] of jobs.entries()) {
      const answer = answers[index] as ThreadAnswer
      if ('text' in answer) job.resolve(answer.text)
      else job.reject(new SpiffeError('rego_evaluation_failed', answer.failed))
    }
    this.#feed(slot)
  }

  /** The thread hangs or is dead: the evaluation it is in fails, the others are asked again. They change nothing, so that they may be. */
  #lose (slot: Slot, thread: Thread, error: SpiffeError): void {
    if (slot.thread !== thread) return
    slot.thread = undefined
    const jobs = slot.running
    slot.running = []
    const guilty = Math.max(0, Atomics.load(thread.progress, 0) - slot.firstBegun - 1)
    jobs[guilty]?.reject(error)
    this.#waiting.unshift(...jobs.filter(({ signal }, index) => index !== guilty && signal?.aborted !== true))
    // Its last words are nobody's: `#lose` and `#answered` look which thread the slot has.
    void thread.worker.terminate()
    void this.#replace(slot)
  }

  async #replace (slot: Slot): Promise<void> {
    for (let waitMs = 100; !this.#stop.signal.aborted; waitMs = Math.min(waitMs * 2, 10_000)) {
      try {
        return this.#occupy(slot, await startThread(this.#modules, this.#limits, this.#clock, this.#stop.signal))
      } catch (error) {
        // The modules have run before, so it is the machine that has no room; what waits must not wait for that.
        const others = this.#slots.some(({ thread }) => thread !== undefined)
        if (!others) for (const job of this.#waiting.splice(0)) job.reject(new SpiffeError('rego_evaluation_failed', 'no thread starts',
          { cause: error }))
        this.#idle?.()
        await this.#clock.sleep(waitMs, this.#stop.signal).catch(() => undefined)
      }
    }
  }

  #occupy (slot: Slot, thread: Thread): void {
    if (this.#stop.signal.aborted) return void thread.worker.terminate()
    slot.thread = thread
    thread.worker.on('message', (answers: readonly ThreadAnswer[]) => { if (slot.thread === thread) this.#answered(slot, answers) })
    const lost = (reason: unknown) =>
      this.#lose(slot, thread, new SpiffeError('rego_evaluation_failed', 'the thread died, most likely for want of memory',
        { cause: reason }))
    thread.worker.on('error', lost)
    thread.worker.on('exit', lost)
    this.#feed(slot)
  }
}

class Slot {
  thread: Thread | undefined
  /** What the thread was given, in its order. */
  running: readonly Job[] = []
  /** The thread's count when it was given them. */
  firstBegun = 0
  guarded = false
}

interface Thread {
  readonly worker: Worker
  readonly progress: Int32Array
  /** Its own: another thread begins to count anew. */
  readonly stay: Stay
  readonly entrypoints: ReadonlyArray<ReadonlyMap<string, number>>
}

/** The file beside this one, which is JavaScript where this one is. */
const threadFile = new URL(import.meta.url.endsWith('.ts') ? './evaluation-thread.ts' : './evaluation-thread.js', import.meta.url)

async function startThread (modules: readonly LoadedModule[], limits: EvaluationLimits, clock: Clock,
  signal: AbortSignal): Promise<Thread> {
  signal.throwIfAborted()
  const progress = new SharedArrayBuffer(8)
  const setup: ThreadSetup = { modules, maxPages: limits.memoryMb * mebibyte / 65_536, progress }
  const worker = new Worker(threadFile, {
    workerData: setup, name: 'rego', stdin: false, env: {}, execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 64 + limits.memoryMb, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 }
  })
  // A policy must not keep a process alive that has nothing else to do.
  worker.unref()
  const over = new AbortController()
  try {
    const greeting = await new Promise<ThreadGreeting>((resolve, reject) => {
      const fail = (why: string, cause?: unknown) => reject(new SpiffeError('rego_bundle_invalid', why, { cause }))
      worker.once('message', resolve)
      worker.once('error', error => fail('a policy.wasm cannot be started', error))
      worker.once('exit', () => fail('a policy.wasm ended its thread while it was started'))
      const late = clock.sleep(startTimeoutMs, AbortSignal.any([signal, over.signal]))
      late.then(() => fail(`a policy.wasm was not ready within ${startTimeoutMs / 1000} s`),
        () => { if (signal.aborted) reject(signal.reason) })
    })
    if ('refused' in greeting) throw new SpiffeError('rego_bundle_invalid', greeting.refused)
    const stay = new Stay(limits.timeoutMs / 2)
    return { worker, progress: new Int32Array(progress), stay, entrypoints: greeting.entrypoints }
  } catch (error) {
    worker.on('error', () => undefined)
    await worker.terminate()
    throw error
  } finally {
    over.abort()
  }
}
