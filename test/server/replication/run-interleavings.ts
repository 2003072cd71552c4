import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Faults } from './log-model.ts'

const program = join(import.meta.dirname, 'log-model-run.ts')

/** @returns what went wrong, and with which seed; empty when nothing did */
export async function runInterleavings (from: number, count: number, faults: Faults = {}): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, String(from), String(count), JSON.stringify(faults)])
  return stdout
}
