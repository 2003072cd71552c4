import { batchesBySize } from '../../runtime/batches-by-size.ts'
import { decodeMessage } from '../../wire/decode-message.ts'
import { encodeMessage } from '../../wire/encode-message.ts'
import { Entry, type EntryInit, type Status } from '../../wire/generated/types.ts'
import type { ExitCode } from '../command.ts'
import { statusesSuffice } from '../batch-item.ts'
import { tellChange, type Wait, type WaitCall } from '../convergence/wait.ts'
import { printable } from '../pretty.ts'
import { openProgress } from '../progress.ts'
import { statusCodeName } from '../status-code.ts'
import type { Terminal } from '../terminal.ts'
import { formatEntry } from './format-entry.ts'

export interface EntryResult { readonly status: Status | undefined, readonly entry: Entry | undefined }

/** Sends entries in batches, one after the other. Results come in the order of the entries. */
export async function inBatches (
  entries: readonly EntryInit[], terminal: Terminal, send: (batch: readonly EntryInit[]) => Promise<readonly EntryResult[]>
): Promise<EntryResult[]> {
  using progress = openProgress(terminal, entries.length, 'entries')
  const results: EntryResult[] = []
  const sizeOf = (entry: EntryInit) => encodeMessage(Entry, entry).length
  for (const batch of batchesBySize(entries, sizeOf)) {
    results.push(...await send(batch))
    progress.show(results.length)
  }
  return results
}

/** What was asked for, and what became of it. */
export interface EntryChanges {
  readonly verb: 'create' | 'update'
  readonly asked: readonly EntryInit[]
  readonly results: readonly EntryResult[]
}

/**
 * Tells what became of each entry, and who has those that succeeded. One failure makes the exit code 1, also with JSON under our own name;
 * with JSON, an entry that was refused stands beside its status.
 */
export async function tellResults (call: WaitCall, { verb, asked, results }: EntryChanges, wait: Wait | undefined): Promise<ExitCode> {
  const { terminal } = call
  const failed = results.flatMap(({ status }, index) =>
    status === undefined || status.code === 0 ? [] : [{ status, entry: asked[index] ?? {} }])
  const made = results.flatMap(({ status, entry }) => (status?.code ?? 0) === 0 && entry !== undefined ? [entry] : [])
  const pretty = () => {
    for (const entry of made) terminal.out(formatEntry(entry))
    for (const { status, entry } of failed) {
      const reason = `code: ${statusCodeName(status.code)}, msg: ${JSON.stringify(printable(status.message))}`
      terminal.err(`Failed to ${verb} the following entry (${reason}):\n${formatEntry(entry)}`)
    }
    if (failed.length > 0) terminal.err(`Error: failed to ${verb} ${failed.length === 1 ? 'one entry' : `${failed.length} entries`}\n`)
  }
  const entryIds = made.map(({ id }) => id)
  const concern = entryIds.length === 0 ? undefined : { entryIds, mustServe: new Set(entryIds) }
  const json = { results: results.map((result, index) => result.entry === undefined ? { ...result, entry: whole(asked[index]) } : result) }
  const code = await tellChange(call, { json, pretty }, wait, concern)
  return failed.length > 0 && !statusesSuffice(call) ? 1 : code
}

/** With every field that was not given, as it would have been sent. */
function whole (entry: EntryInit | undefined): Entry | undefined {
  return entry === undefined ? undefined : decodeMessage(Entry, encodeMessage(Entry, entry))
}
