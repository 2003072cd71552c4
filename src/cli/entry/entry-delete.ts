import { SpiffeError } from '../../spiffe/errors.ts'
import { entryService } from '../../wire/generated/server-entry.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { counted, printable } from '../pretty.ts'
import { readInputJson } from '../read-input.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { statusCodeName } from '../status-code.ts'
import type { Terminal } from '../terminal.ts'

export const entryDelete = defineCommand({
  flags: {
    entryID: textFlag('the entry to delete', { placeholder: 'ID' }),
    file: pathFlag('delete the entries of {"ids": […]} in this file; - is standard input', { placeholder: 'FILE|-' }),
    ...serverFlags,
    output: outputFlag
  },
  examples: ['assay entry delete -entryID 6c2e…', 'assay entry delete -file ids.json'],
  async run (call) {
    const { flags, terminal } = call
    if ((flags.entryID === undefined) === (flags.file === undefined)) throw usage('one of -entryID and -file is required')
    const ids = flags.file === undefined ? [flags.entryID as string] : await readIds(flags.file, terminal)
    const { results } = await withServer(call, channel =>
      channel.client(entryService).batchDeleteEntry({ ids }, { signal: terminal.signal }))
    const failed = results.filter(({ status }) => status !== undefined && status.code !== 0)
    if (flags.output === 'json') {
      terminal.out(`${formatJson({ results })}\n`)
      return failed.length > 0 ? 1 : 0
    }
    for (const { id, status } of results) {
      if (status === undefined || status.code === 0) {
        terminal.out(`Deleted entry with ID: ${printable(id)}\n`)
      } else {
        const reason = `code: ${statusCodeName(status.code)}, msg: ${JSON.stringify(printable(status.message))}`
        terminal.err(`Failed to delete entry with ID ${printable(id)} (${reason})\n`)
      }
    }
    if (flags.file !== undefined) {
      terminal.out(`Deleted ${counted(results.length - failed.length, 'entry', 'entries')} successfully\n`)
    }
    if (failed.length > 0) terminal.err(`Error: failed to delete ${failed.length === 1 ? 'one entry' : `${failed.length} entries`}\n`)
    return failed.length > 0 ? 1 : 0
  }
})

async function readIds (path: string, terminal: Terminal): Promise<string[]> {
  const { ids } = (await readInputJson(path, terminal) ?? {}) as { ids?: unknown }
  if (!Array.isArray(ids) || ids.length === 0 || !ids.every(id => typeof id === 'string')) {
    throw new SpiffeError('file_unusable', `${path} is not of the form {"ids": ["…"]}`)
  }
  return ids
}
