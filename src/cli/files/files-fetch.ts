import { defineCommand } from '../command.ts'
import { durationFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { formatRows, formatTime } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { fetchFiles } from './fetch-files.ts'
import { filesConfigFlags, readFilesConfig } from './files-config-flags.ts'

export const filesFetch = defineCommand({
  flags: {
    timeout: durationFlag('how long to wait for the agent and for an identity', 60_000, '1m'),
    ...filesConfigFlags,
    output: outputFlag
  },
  details: 'Writes all files once, or none of them. No program is started or told.\n' +
    'Exit code: 0 written; 1 the agent cannot be reached, has no identity, or the files cannot be written; 2 unusable configuration.',
  examples: ['assay files fetch -config helper.conf', 'assay files fetch -config files.yaml -timeout 5m --output json'],
  async run ({ flags, terminal }) {
    const config = await readFilesConfig(flags, terminal)
    const report = await fetchFiles(config, flags.timeout, terminal.signal)
    if (flags.output === 'json') {
      terminal.out(`${formatJson(report)}\n`)
      return 0
    }
    terminal.out(formatRows([
      ['Folder', report.folder],
      ...report.files.map(({ name, mode }) => ['File', `${name} (${mode})`] as const),
      ['SPIFFE ID', report.spiffeId],
      ['Serial number', report.serialNumber],
      ['Valid until', report.notAfter && formatTime(report.notAfter)],
      ['Changed', report.changed ? 'yes' : 'no']
    ], 14))
    return 0
  }
})
