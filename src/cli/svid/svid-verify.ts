import { systemClock } from '../../runtime/clock.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, trustDomainOf } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { validateJwtSvid } from '../../jwt/validate-jwt-svid.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import { verifyX509Svid } from '../../x509/verify-svid.ts'
import { defineCommand } from '../command.ts'
import { commaListFlag, instantFlag, pathFlag, trustDomainFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { formatRows, formatTime } from '../pretty.ts'
import { readBundleText } from '../read-bundle.ts'
import { readInputFile } from '../read-input.ts'
import { formatRefusal, refusalOf, type Refusal } from '../refusal.ts'
import { outputFlag } from '../socket-path.ts'
import { readSvidFile, type SvidFile } from './read-svid-file.ts'
import { tokenFacts } from './token-facts.ts'

interface Judged { readonly id: string, readonly expiresAt: Date }

export const svidVerify = defineCommand({
  flags: {
    bundle: pathFlag('what to trust: a SPIFFE bundle (JSON) or CA certificates (PEM)'),
    'trust-domain': trustDomainFlag('whose bundle it is; when not given, its CA certificates tell, or for JSON the SVID does'),
    at: instantFlag('judge as of this time instead of now'),
    audience: commaListFlag('for a JWT: one of these must be in its aud', 'NAME'),
    output: outputFlag
  },
  argument: { name: 'FILE' },
  details: 'FILE is an X.509 chain in PEM or DER, leaf first, or a JWT; - is standard input.\n' +
    'Exit code: 0 valid; 1 refused, with the number of the broken requirement; 2 unusable input.',
  examples: [
    'assay svid verify svid.pem -bundle bundle.pem -trust-domain example.org',
    'assay svid verify token.jwt -bundle example.org.json -audience db --output json',
    'assay svid verify svid.pem -bundle example.org.json -at 2026-01-31T12:00:00Z'
  ],
  async run ({ flags, argument, terminal }) {
    if (flags.bundle === undefined) throw usage('a bundle is required: -bundle')
    const bundleText = new TextDecoder().decode(await readInputFile(flags.bundle))
    const at = flags.at ?? systemClock.now()
    let kind: SvidFile['kind'] | undefined
    let trustDomain: TrustDomain | undefined
    try {
      const file = await readSvidFile(argument, terminal)
      kind = file.kind
      if (file.kind === 'jwt' && flags.audience.length === 0) throw usage('a JWT-SVID is verified for an audience: give -audience')
      if (file.kind === 'x509' && flags.audience.length > 0) throw usage('-audience is for a JWT, and FILE is an X.509 chain')
      const claimed = claimedDomain(file)
      // What names no trust domain is refused for its form, whosever the bundle is.
      if (claimed === undefined) await judge(file, undefined, flags.audience, at)
      const bundle = readBundleText(bundleText, { name: flags.bundle, trustDomain: flags['trust-domain'], fallback: claimed })
      trustDomain = bundle.trustDomain
      const judged = await judge(file, bundle, flags.audience, at)
      terminal.out(flags.output === 'json'
        ? `${formatJson({ valid: true, kind, spiffeId: judged.id, trustDomain, expiresAt: judged.expiresAt, at })}\n`
        : tellValid(judged, trustDomain, at))
      return 0
    } catch (error) {
      const refusal = refusalOf(error)
      if (refusal === undefined || refusal.code === 'usage_invalid' || refusal.code === 'file_unusable') throw error
      if (flags.output === 'json') terminal.out(`${formatJson({ valid: false, kind, trustDomain, at, error: refusal })}\n`)
      else terminal.err(tellRefused(refusal))
      return 1
    }
  }
})

async function judge (file: SvidFile, bundle: Bundle | undefined, audience: readonly string[], at: Date): Promise<Judged> {
  const bundleOf = (trustDomain: TrustDomain) => trustDomain === bundle?.trustDomain ? bundle : undefined
  return file.kind === 'x509' ? verifyX509Svid(file.chain, { bundleOf, at }) : validateJwtSvid(file.token, { bundleOf, audience, at })
}

/** The trust domain that the SVID says it is of; `undefined` when it does not say so in a readable way. */
function claimedDomain (file: SvidFile): TrustDomain | undefined {
  try {
    const leaf = file.kind === 'x509' ? file.chain[0] : undefined
    const id = file.kind === 'jwt' ? tokenFacts(file.token).claims.get('sub') : leaf && parseCertificate(leaf).uriSans[0]
    return trustDomainOf(parseSpiffeId(String(id)))
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
}

function tellValid ({ id, expiresAt }: Judged, trustDomain: TrustDomain, at: Date): string {
  return `SVID is valid.\n${formatRows([
    ['SPIFFE ID', id],
    ['Trust domain', trustDomain],
    ['Valid until', formatTime(expiresAt)],
    ['Judged as of', formatTime(at)]
  ], 14)}`
}

function tellRefused (refusal: Refusal): string {
  return `SVID is refused.\n${formatRefusal(refusal)}`
}
