import { workloadService } from '../../wire/generated/workload.ts'
import { structToMap } from '../../wire/struct-json.ts'
import { withAgent } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { durationFlag, textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { printable } from '../pretty.ts'
import { readInputText } from '../read-input.ts'
import { agentFlags, outputFlag } from '../socket-path.ts'
import { workloadCallOptions } from './workload-call.ts'

export const validateJwt = defineCommand({
  flags: {
    audience: textFlag('the audience that the token must be for', { placeholder: 'NAME' }),
    svid: textFlag('the token; - reads it from standard input, so that no other user sees it', { placeholder: 'TOKEN|-' }),
    timeout: durationFlag('how long to wait for an answer', 5_000, '5s'),
    ...agentFlags,
    output: outputFlag
  },
  examples: ['assay api validate jwt -audience db -svid - < token'],
  async run (call) {
    const { flags, terminal } = call
    if (flags.audience === undefined) throw usage('an audience is required: -audience')
    if (flags.svid === undefined) throw usage('a token is required: -svid')
    const svid = flags.svid === '-' ? (await readInputText('-', terminal)).trim() : flags.svid
    const request = { audience: flags.audience, svid }
    const { spiffeId, claims } = await withAgent(call, channel =>
      channel.client(workloadService).validateJWTSVID(request, workloadCallOptions(terminal, flags.timeout)))
    const map = structToMap(claims)
    terminal.out(flags.output === 'json'
      ? `${formatJson({ spiffeId, claims: map })}\n`
      : `SVID is valid.\nSPIFFE ID : ${printable(spiffeId)}\nClaims    : ${printable(formatJson(map))}\n`)
    return 0
  }
})
