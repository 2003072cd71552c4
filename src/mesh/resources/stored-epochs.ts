import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import type { EpochStore, StoredEpoch } from './connection-epochs.ts'

const schema = z.record(z.string(), z.strictObject({ name: z.string(), access: z.string() }))

/**
 * Epochs in one file. No file is as good as a broken one: all begin anew. It need not outlive the machine, since no connection does, and
 * so nothing waits for the disk.
 */
export function epochsIn (path: string): EpochStore {
  return {
    read () {
      try {
        return new Map(Object.entries(schema.parse(JSON.parse(readFileSync(path, 'utf8')))))
      } catch {
        return new Map<string, StoredEpoch>()
      }
    },
    write (epochs) {
      try {
        writeFileSync(`${path}.new`, JSON.stringify(Object.fromEntries(epochs)), { mode: 0o600 })
        renameSync(`${path}.new`, path)
      } catch {
        // What is not there misleads nobody; what is out of date would let connections live on.
        rmSync(path, { force: true })
      }
    }
  }
}
