import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import type { Clock } from '../../../runtime/clock.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'

export type HashableFile = Pick<FileHandle, 'read' | 'stat' | 'close'>

const chunkSize = 256 * 1024
const maxKnown = 1024
/** A file changed less than this before it was read might change again without another time stamp. */
const settledAfterMs = 2_000

interface Job {
  readonly digest: Promise<string>
  readonly abort: AbortController
  waiters: number
}

/** SHA-256 of files, remembered as long as device, inode, size and both time stamps stay; one reading serves all who ask meanwhile. */
export class FileDigests {
  readonly #clock: Clock
  /** By version; the least recently used first. */
  readonly #known = new Map<string, string>()
  readonly #jobs = new Map<string, Job>()

  constructor (clock: Clock) { this.#clock = clock }

  /**
   * @param file is taken over: it gets closed here
   * @returns lower-case hex
   */
  async sha256 (file: HashableFile, signal: AbortSignal): Promise<string> {
    let version: string
    try {
      version = versionOf(await file.stat({ bigint: true }))
    } catch (error) {
      await file.close()
      throw error
    }
    const known = this.#known.get(version)
    const running = this.#jobs.get(version)
    if (known === undefined && running === undefined) return await this.#join(this.#begin(file, version), version, signal)
    await file.close()
    if (known === undefined) return await this.#join(running as Job, version, signal)
    this.#remember(version, known)
    return known
  }

  #begin (file: HashableFile, version: string): Job {
    const abort = new AbortController()
    const job = { digest: this.#run(file, version, abort.signal), abort, waiters: 0 }
    this.#jobs.set(version, job)
    const forget = () => this.#forget(job, version)
    job.digest.then(forget, forget)
    return job
  }

  async #run (file: HashableFile, version: string, signal: AbortSignal): Promise<string> {
    try {
      const begun = this.#clock.now()
      const digest = await hashAll(file, signal)
      const stats = await file.stat({ bigint: true })
      if (versionOf(stats) !== version) throw new SpiffeError('workload_attestation_failed', 'the executable changed while it was read')
      const changedMs = Number(stats.ctimeMs > stats.mtimeMs ? stats.ctimeMs : stats.mtimeMs)
      if (begun.getTime() - changedMs >= settledAfterMs) this.#remember(version, digest)
      return digest
    } finally {
      await file.close()
    }
  }

  /** The reading ends early when nobody waits for it any more. */
  async #join (job: Job, version: string, signal: AbortSignal): Promise<string> {
    job.waiters++
    let leave = () => {}
    try {
      return await new Promise((resolve, reject) => {
        leave = () => reject(signal.reason as Error)
        if (signal.aborted) leave()
        signal.addEventListener('abort', leave, { once: true })
        job.digest.then(resolve, reject)
      })
    } finally {
      signal.removeEventListener('abort', leave)
      if (--job.waiters === 0) {
        job.abort.abort()
        this.#forget(job, version)
      }
    }
  }

  #forget (job: Job, version: string): void {
    if (this.#jobs.get(version) === job) this.#jobs.delete(version)
  }

  #remember (version: string, digest: string): void {
    this.#known.delete(version)
    this.#known.set(version, digest)
    const oldest = this.#known.keys().next()
    if (this.#known.size > maxKnown && oldest.done !== true) this.#known.delete(oldest.value)
  }
}

async function hashAll (file: HashableFile, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(chunkSize)
  for (let position = 0; ;) {
    signal.throwIfAborted()
    const { bytesRead } = await file.read(buffer, 0, chunkSize, position)
    if (bytesRead === 0) return hash.digest('hex')
    hash.update(buffer.subarray(0, bytesRead))
    position += bytesRead
  }
}

function versionOf ({ dev, ino, size, mtimeNs, ctimeNs }: Pick<BigIntStats, 'dev' | 'ino' | 'size' | 'mtimeNs' | 'ctimeNs'>): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(':')
}
