import { open, rename, type FileHandle } from 'node:fs/promises'
import type { BatchWriter } from './batching-sink.ts'
import { decisionEvent, type EventSettings } from './decision-event.ts'
import type { DecisionRecord } from './decision-record.ts'
import type { SinkObserver } from './sink.ts'

export interface FileOptions {
  readonly path: string
  /** From this many bytes on a new file is begun; the old ones are `path.1`, `path.2` and so on, `path.1` the newest. Without it, never. */
  readonly maxBytes?: number | undefined
  /** How many old files are kept; 3. */
  readonly keep?: number | undefined
}

/** Appends a JSON line per decision. What a full disk tore is ended with a line of its own, which no reader takes for a decision. */
export class FileWriter implements BatchWriter {
  readonly name = 'file'
  readonly #options: FileOptions
  readonly #settings: EventSettings
  readonly #observer: SinkObserver
  #file: FileHandle | undefined
  #size = 0
  #torn = false

  constructor (options: FileOptions, settings: EventSettings, observer: SinkObserver) {
    this.#options = options
    this.#settings = settings
    this.#observer = observer
  }

  async write (batch: readonly DecisionRecord[]): Promise<number> {
    const lines = batch.map(record => `${JSON.stringify(decisionEvent(record, this.#settings))}\n`).join('')
    let bytes
    try {
      const file = await this.#opened(Buffer.byteLength(lines) + 1)
      bytes = Buffer.from(this.#torn ? `\n${lines}` : lines)
      await file.appendFile(bytes)
    } catch (error) {
      this.#torn = true
      // Whoever moved the file away, or mounted the disk anew, finds it opened anew.
      await this.close().catch(() => {})
      throw error
    }
    this.#torn = false
    this.#size += bytes.length
    this.#observer.written(this.name, batch.length)
    return batch.length
  }

  async close (): Promise<void> {
    const file = this.#file
    this.#file = undefined
    await file?.close()
  }

  async #opened (more: number): Promise<FileHandle> {
    const { path, maxBytes = Infinity, keep = 3 } = this.#options
    if (this.#file !== undefined && this.#size > 0 && this.#size + more > maxBytes) {
      await this.close()
      await rotate(path, keep)
    }
    if (this.#file === undefined) {
      // Who was called, and by whom, is nobody else's business.
      this.#file = await open(path, 'a', 0o600)
      this.#size = (await this.#file.stat()).size
      // Whoever wrote it before may have ended amid a line.
      if (this.#size > 0) this.#torn = true
    }
    return this.#file
  }
}

async function rotate (path: string, keep: number): Promise<void> {
  for (let i = keep; i >= 1; i--) {
    await rename(i === 1 ? path : `${path}.${i - 1}`, `${path}.${i}`).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
  }
}
