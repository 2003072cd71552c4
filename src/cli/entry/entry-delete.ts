import { SpiffeError } from '../../spiffe/errors.ts'
import { entryService, type BatchDeleteEntryResponse_Result } from '../../wire/generated/server-entry.ts'
import { statusesSuffice } from '../batch-item.ts'
import { defineCommand } from '../command.ts'
import { beginWait, tellChange, waitFlags } from '../convergence/wait.ts'
import { pathFlag, textFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { printable } from '../pretty.ts'
import { readInputJson } from '../read-input.ts'
import { withServers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import { statusCodeName } from '../status-code.ts'
import type { Terminal } from '../terminal.ts'

export const entryDelete = defineCommand({
  flags: {
    entryID: textFlag('the entry to delete', { placeholder: 'ID' }),
    file: pathFlag('delete the entries of {"ids": […]} in this file; - is standard input', { placeholder: 'FILE|-' }),
    ...waitFlags,
    ...replicaFlags,
    output: outputFlag
  },
  examples: ['assay entry delete -entryID 6c2e… --wait', 'assay entry delete -file ids.json'],
  async run (call) {
    const { flags, terminal } = call
    if ((flags.entryID === undefined) === (flags.file === undefined)) throw usage('one of -entryID and -file is required')
    const ids = flags.file === undefined ? [flags.entryID as string] : await readIds(flags.file, terminal)
    return withServers(call, async servers => {
      const wait = await beginWait(call, servers)
      const { results } = await servers.change(channel =>
        channel.client(entryService).batchDeleteEntry({ ids }, { signal: terminal.signal }))
      const entryIds = results.flatMap(({ id, status }) => (status?.code ?? 0) === 0 ? [id] : [])
      const pretty = () => tellDeleted(results, terminal)
      const code = await tellChange(call, { json: { results }, pretty }, wait, entryIds.length === 0 ? undefined : { entryIds })
      return entryIds.length < results.length && !statusesSuffice(call) ? 1 : code
    })
  }
})

function tellDeleted (results: readonly BatchDeleteEntryResponse_Result[], terminal: Terminal): void {
  const failed = results.filter(({ status }) => status !== undefined && status.code !== 0)
  for (const { id, status } of results) {
    if (status === undefined || status.code === 0) {
      terminal.out(`Deleted entry with ID: ${printable(id)}\n`)
    } else {
      const reason = `code: ${statusCodeName(status.code)}, msg: ${JSON.stringify(printable(status.message))}`
      terminal.err(`Failed to delete entry with ID ${printable(id)} (${reason})\n`)
    }
  }
  const deleted = results.length - failed.length
  // In SPIRE's words, which know no singular here.
  const summary = failed.length === 0
    ? `Deleted ${deleted} entries successfully`
    : deleted === 0
      ? `Failed to delete ${failed.length} entries`
      : `Deleted ${deleted} entries successfully, but failed to delete ${failed.length} entries`
  terminal.out(`${summary}\n`)
  if (failed.length > 0) terminal.err(`Error: failed to delete ${failed.length === 1 ? 'one entry' : `${failed.length} entries`}\n`)
}

async function readIds (path: string, terminal: Terminal): Promise<string[]> {
  const { ids } = (await readInputJson(path, terminal) ?? {}) as { ids?: unknown }
  if (!Array.isArray(ids) || ids.length === 0 || !ids.every(id => typeof id === 'string')) {
    throw new SpiffeError('file_unusable', `${path} is not of the form {"ids": ["…"]}`)
  }
  return ids
}
