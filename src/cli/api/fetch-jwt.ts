import { firstOf } from '../../runtime/first-of.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { workloadService, type JWTBundlesResponse, type JWTSVIDResponse } from '../../wire/generated/workload.ts'
import { withAgent } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { commaListFlag, durationFlag, spiffeIdFlag, type Flag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { printable } from '../pretty.ts'
import { agentFlags, outputFlag } from '../socket-path.ts'
import { workloadCallOptions } from './workload-call.ts'

/** SPIRE's older name of `-output`; where both are given, it wins. */
const formatFlag: Flag<typeof outputFlag.initial | undefined> = {
  ...outputFlag, help: 'deprecated: use -output', initial: undefined, defaultText: undefined
}

export const fetchJwt = defineCommand({
  flags: {
    audience: commaListFlag('who the token is for', 'NAME[,NAME]'),
    spiffeID: spiffeIdFlag('only the SVID with this ID'),
    timeout: durationFlag('how long to wait for an answer', 5_000, '5s'),
    format: formatFlag,
    ...agentFlags,
    output: outputFlag
  },
  examples: ['assay api fetch jwt -audience db', 'assay api fetch jwt -audience db,cache -spiffeID spiffe://example.org/web --output json'],
  async run (call) {
    const { flags, terminal } = call
    if (flags.audience.length === 0) throw usage('at least one audience is required: -audience')
    const request = { audience: flags.audience, spiffeId: flags.spiffeID }
    const [svids, bundles] = await withAgent(call, async channel => {
      const client = channel.client(workloadService)
      const options = workloadCallOptions(terminal, flags.timeout)
      const [svids, bundles] = await Promise.all([client.fetchJWTSVID(request, options), firstOf(client.fetchJWTBundles({}, options))])
      if (bundles === undefined) throw new SpiffeError('server_unreachable', 'the agent ended the stream without an answer')
      return [svids, bundles] as const
    })
    terminal.out((flags.format ?? flags.output) === 'json'
      ? `${formatJson([svids, { bundles: new Map(Object.entries(bundles.bundles)) }])}\n`
      : formatJwtResponses(svids, bundles))
    return 0
  }
})

function formatJwtResponses ({ svids }: JWTSVIDResponse, { bundles }: JWTBundlesResponse): string {
  return [
    ...svids.flatMap(({ spiffeId, svid, hint }) => [item('token', spiffeId, svid), hint === '' ? '' : item('hint', spiffeId, hint)]),
    ...Object.entries(bundles).map(([trustDomain, bundle]) => item('bundle', trustDomain, new TextDecoder().decode(bundle)))
  ].join('')
}

function item (kind: string, whose: string, value: string): string {
  return `${kind}(${printable(whose)}):\n\t${printable(value)}\n`
}
