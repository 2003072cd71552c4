import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { DecisionEvent } from './decision-event.ts'

/** Of one decision, in characters; what is longer is skipped as unreadable. */
const longestLine = 4 * 1_048_576

/** A line of a log: a decision, or `undefined` for what is none. */
export interface EventLine { readonly line: number, readonly event: DecisionEvent | undefined }

/**
 * Reads a decision log of JSON lines, of any length, one line at a time; gzip is recognised by the name's end `.gz`. Empty lines are
 * skipped, torn ones are told.
 * @throws {SpiffeError} `file_unusable`
 */
export async function * readEvents (path: string): AsyncIterable<EventLine> {
  const file = createReadStream(path, { highWaterMark: 1_048_576 })
  let line = 0
  try {
    for await (const lines of linesOf(path.endsWith('.gz') ? unzipped(file) : file)) {
      for (const text of lines) {
        line++
        if (text !== '') yield { line, event: parseEvent(text) }
      }
    }
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  } finally {
    file.destroy()
  }
}

/** `pipe` alone would leave the reader waiting for a file that cannot be opened. */
function unzipped (file: Readable): Readable {
  const gunzip = createGunzip()
  file.on('error', error => gunzip.destroy(error))
  return file.pipe(gunzip)
}

/** Whole lines, as many at once as came; of one that is too long, its begin alone, which is no JSON. */
async function * linesOf (stream: Readable): AsyncIterable<readonly string[]> {
  let begun = ''
  stream.setEncoding('utf8')
  for await (const chunk of stream as AsyncIterable<string>) {
    const lines = chunk.split('\n')
    lines[0] = begun.length > longestLine ? begun : begun + (lines[0] ?? '')
    begun = lines.pop() ?? ''
    yield lines
  }
  yield [begun]
}

function parseEvent (text: string): DecisionEvent | undefined {
  if (text.length > longestLine) return undefined
  try {
    const event = JSON.parse(text) as DecisionEvent | null
    const isEvent = typeof event === 'object' && event !== null && typeof event.decision_id === 'string' &&
      typeof event.input === 'object' && typeof event.result === 'object' && event.result !== null
    return isEvent ? event : undefined
  } catch {
    return undefined
  }
}
