import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { choiceFlag, numberFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { serverFlags } from '../socket-path.ts'
import { formatDocuments, formatStored } from './format-policy.ts'
import { getPolicies } from './policy-calls.ts'

export const policyShow = defineCommand({
  flags: {
    version: numberFlag('the version to show instead of the active one', { minimum: 1 }),
    ...serverFlags,
    output: choiceFlag('form of the output; yaml is the documents alone, to be applied again', ['pretty', 'yaml', 'json'], 'pretty')
  },
  examples: ['assay policy show', 'assay policy show -version 7 --output yaml > policies.yaml'],
  async run (call) {
    const { flags: { version = 0, output }, terminal } = call
    const stored = await withServer(call, channel => getPolicies(channel, version, terminal.signal))
    if (output === 'json') terminal.out(`${formatJson(stored)}\n`)
    else terminal.out(output === 'yaml' ? formatDocuments(stored) : formatStored(stored))
    return 0
  }
})
