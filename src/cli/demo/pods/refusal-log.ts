import { open, truncate } from 'node:fs/promises'
import { readJsonLine } from '../read-json-line.ts'
import { until } from '../until.ts'

/** A call that a node's proxy let in no further. */
interface Refusal {
  /** Wall-clock milliseconds. */
  readonly atMs: number
  /** SPIFFE ID of the workload that was called. */
  readonly local: string
  /** Who called, by the certificate that was shown. */
  readonly peer: string
}

const flushTimeoutMs = 2_000
const keptBytes = 4_000_000
const keptRefusals = 500

/** What the nodes' Envoys write down of the calls they refuse. */
export class RefusalLog {
  /** File → how far it has been read. */
  readonly #files: Map<string, number>
  #refusals: Refusal[] = []
  #reading: Promise<void> | undefined

  constructor (files: readonly string[]) { this.#files = new Map(files.map(file => [file, 0])) }

  /**
   * Who called `local` in this time and was refused; Envoy writes its log a little later than it answers.
   * @returns `undefined` when no proxy refused anybody: the call did not come that far
   */
  async peerOf (local: string, fromMs: number, toMs: number, signal: AbortSignal): Promise<string | undefined> {
    const look = async () => {
      await (this.#reading ??= this.#readAll().finally(() => { this.#reading = undefined }))
      return this.#refusals.find(one => one.local === local && one.atMs >= Math.floor(fromMs) && one.atMs <= toMs)?.peer
    }
    return await until('a refusal in an access log', look, flushTimeoutMs, signal).catch(() => {
      signal.throwIfAborted()
      return undefined
    })
  }

  async #readAll (): Promise<void> {
    for (const [file, offset] of this.#files) {
      const { lines, end } = await readLines(file, offset)
      this.#files.set(file, end)
      this.#refusals.push(...lines.flatMap(parseRefusal))
      if (end < keptBytes) continue
      // Envoy appends: it goes on at the beginning.
      await truncate(file)
      this.#files.set(file, 0)
    }
    this.#refusals = this.#refusals.slice(-keptRefusals)
  }
}

/** Whole lines from `offset` on, and where they end. */
async function readLines (file: string, offset: number): Promise<{ lines: string[], end: number }> {
  await using handle = await open(file).catch(() => undefined)
  if (handle === undefined) return { lines: [], end: offset }
  const { size } = await handle.stat()
  const buffer = Buffer.alloc(Math.max(0, size - offset))
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset)
  const length = buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1
  return { lines: buffer.toString('utf8', 0, length).split('\n'), end: offset + length }
}

function parseRefusal (line: string): Refusal[] {
  const { time, direction, local, peer, details } = readJsonLine(line) ?? {}
  if (direction !== 'inbound' || !String(details).startsWith('rbac_access_denied')) return []
  return [{ atMs: Date.parse(String(time)), local: String(local), peer: String(peer) }]
}
