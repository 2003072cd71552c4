import { SpiffeError } from '../../spiffe/errors.ts'
import { svidService } from '../../wire/generated/server-svid.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, secondsFlag, spiffeIdFlag, textListFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { writeSecretFile } from '../write-output.ts'

export const jwtMint = defineCommand({
  flags: {
    spiffeID: spiffeIdFlag('the SPIFFE ID of the SVID'),
    audience: textListFlag('who the token is for', 'NAME'),
    ttl: secondsFlag('life of the token', 'the server\'s'),
    write: pathFlag('write the token to this file (mode 0600) instead of printing it'),
    ...serverFlags,
    output: outputFlag
  },
  examples: [
    'assay jwt mint -spiffeID spiffe://example.org/batch -audience db',
    'assay jwt mint -spiffeID spiffe://example.org/batch -audience db -ttl 2m -write token'
  ],
  async run (call) {
    const { flags, terminal } = call
    if (flags.spiffeID === undefined) throw usage('a SPIFFE ID is required: -spiffeID')
    if (flags.audience.length === 0) throw usage('at least one audience is required: -audience')
    const request = { id: encodeSpiffeId(flags.spiffeID), audience: flags.audience, ttl: flags.ttl }
    const { svid } = await withServer(call, channel => channel.client(svidService).mintJWTSVID(request, { signal: terminal.signal }))
    if (svid === undefined) throw new SpiffeError('jwt_svid_malformed', 'the server answered without a token')
    if (flags.write !== undefined) await writeSecretFile(flags.write, svid.token)
    const told = flags.write === undefined ? svid : { ...svid, token: undefined }
    if (flags.output === 'json') terminal.out(`${formatJson({ svid: told })}\n`)
    else terminal.out(flags.write === undefined ? `${svid.token}\n` : `JWT-SVID written to ${flags.write}\n`)
    return 0
  }
})
