import type { Entry, EntryInit, Status } from '../../wire/generated/types.ts'
import type { ExitCode } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { printable } from '../pretty.ts'
import { openProgress } from '../progress.ts'
import { statusCodeName } from '../status-code.ts'
import type { Terminal } from '../terminal.ts'
import { formatEntry } from './format-entry.ts'

export interface EntryResult { readonly status: Status | undefined, readonly entry: Entry | undefined }

/** Keeps each message far below gRPC's usual 4 MiB, and lets progress show. */
const batchSize = 200

/** Sends entries in batches, one after the other. Results come in the order of the entries. */
export async function inBatches (
  entries: readonly EntryInit[], terminal: Terminal, send: (batch: readonly EntryInit[]) => Promise<readonly EntryResult[]>
): Promise<EntryResult[]> {
  using progress = openProgress(terminal, entries.length, 'entries')
  const results: EntryResult[] = []
  for (let start = 0; start < entries.length; start += batchSize) {
    results.push(...await send(entries.slice(start, start + batchSize)))
    progress.show(results.length)
  }
  return results
}

/** Tells what became of each entry. One failure makes the exit code 1, in either form. */
export function tellResults (
  terminal: Terminal, verb: 'create' | 'update', asked: readonly EntryInit[], results: readonly EntryResult[], output: 'pretty' | 'json'
): ExitCode {
  const failed = results.flatMap(({ status }, index) =>
    status === undefined || status.code === 0 ? [] : [{ status, entry: asked[index] ?? {} }])
  if (output === 'json') {
    terminal.out(`${formatJson({ results })}\n`)
  } else {
    for (const { status, entry } of results) if ((status?.code ?? 0) === 0 && entry !== undefined) terminal.out(formatEntry(entry))
    for (const { status, entry } of failed) {
      const reason = `code: ${statusCodeName(status.code)}, msg: ${JSON.stringify(printable(status.message))}`
      terminal.err(`Failed to ${verb} the following entry (${reason}):\n${formatEntry(entry)}`)
    }
    if (failed.length > 0) terminal.err(`Error: failed to ${verb} ${failed.length === 1 ? 'one entry' : `${failed.length} entries`}\n`)
  }
  return failed.length > 0 ? 1 : 0
}
