import { createHash, type Hash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { SpiffeError } from '../../spiffe/errors.ts'

/** The last line: SHA-256, in hex, of every byte before it. */
export function formatTrailer (hash: Hash): string {
  return `{"sha256":"${hash.digest('hex')}"}\n`
}

/** A line is a row; the longest rows are bundles and entries with very many selectors. */
const longestLine = 64 * 1_048_576
const newline = 0x0a

/**
 * The lines of a backup without their ends; the last one, the checksum, is compared and not given. What was given before is worth nothing
 * until the end was reached.
 * @throws {SpiffeError} `backup_malformed` for a file that is cut off or damaged, `file_unusable`
 */
export async function * readLines (path: string): AsyncGenerator<string> {
  const hash = createHash('sha256')
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  let last: Uint8Array | undefined
  for await (const line of splitLines(path)) {
    if (last !== undefined) {
      hash.update(last)
      yield decodeLine(decoder, last)
    }
    last = line
  }
  if (last === undefined) throw new SpiffeError('backup_malformed', `${path} is empty`)
  if (!Buffer.from(formatTrailer(hash)).equals(last)) {
    throw new SpiffeError('backup_malformed', `${path} is damaged or cut off: its last line is not the checksum of what comes before`)
  }
}

function decodeLine (decoder: InstanceType<typeof TextDecoder>, line: Uint8Array): string {
  try {
    return decoder.decode(line.subarray(0, -1))
  } catch (error) {
    throw new SpiffeError('backup_malformed', 'a line of the backup is no UTF-8', { cause: error })
  }
}

/** Lines with their ends; a rest without one is the last. */
async function * splitLines (path: string): AsyncGenerator<Uint8Array> {
  let rest: Uint8Array = new Uint8Array()
  for await (const chunk of readChunks(path)) {
    let start = 0
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const line = chunk.subarray(start, end + 1)
      yield rest.length === 0 ? line : Buffer.concat([rest, line])
      rest = new Uint8Array()
      start = end + 1
    }
    if (start < chunk.length) rest = Buffer.concat([rest, chunk.subarray(start)])
    if (rest.length > longestLine) throw new SpiffeError('backup_malformed', `a line of ${path} is longer than ${longestLine} bytes`)
  }
  if (rest.length > 0) yield rest
}

async function * readChunks (path: string): AsyncGenerator<Uint8Array> {
  try {
    await using file = await open(path, 'r')
    yield * file.createReadStream({ highWaterMark: 1_048_576, autoClose: false }) as AsyncIterable<Uint8Array>
  } catch (error) {
    if (error instanceof SpiffeError || !('syscall' in (error as object))) throw error
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}
