import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../spiffe/errors.ts'
import { reasonOf } from '../runtime/reason-of.ts'
import type { Terminal } from './terminal.ts'

/** No input of any command is larger in earnest. */
const maxBytes = 64 * 1_048_576

/** A whole file. @throws {SpiffeError} `file_unusable` */
export async function readInputFile (path: string): Promise<Uint8Array> {
  let bytes
  try {
    bytes = await readFile(path)
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${reasonOf(error)}`, { cause: error })
  }
  if (bytes.length > maxBytes) throw new SpiffeError('file_unusable', `${path} is larger than ${maxBytes} bytes`)
  return new Uint8Array(bytes)
}

/** A file's text; `-` or no path at all is standard input. @throws {SpiffeError} `file_unusable` */
export async function readInputText (path: string | undefined, terminal: Terminal): Promise<string> {
  if (path === undefined || path === '-') return terminal.readInput()
  return new TextDecoder().decode(await readInputFile(path))
}

/** @throws {SpiffeError} `file_unusable` */
export async function readInputJson (path: string | undefined, terminal: Terminal): Promise<unknown> {
  try {
    return JSON.parse(await readInputText(path, terminal)) as unknown
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('file_unusable', `${path ?? 'standard input'} is not JSON: ${reasonOf(error)}`, { cause: error })
  }
}
