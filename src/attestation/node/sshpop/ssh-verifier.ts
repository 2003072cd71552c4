import { createHash, randomBytes } from 'node:crypto'
import type { Template } from '../../../golang/template/parse-template.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { agentPathTemplate, fieldsOf, ownText, renderAgentPath } from '../agent-path.ts'
import type { NodeExchange, NodeVerifier, VerifiedName } from '../node-verifier.ts'
import { bothNonces } from './both-nonces.ts'
import { authorityOf, parseSshCertificate, type SshCertificate } from './ssh-certificate.ts'
import { encodeChallenge, nonceBytes, parseAnswer, parsePayload } from './ssh-payload.ts'
import { isSignedBy } from './ssh-signature.ts'

export interface SshVerifierConfig {
  /** Who may have signed hosts' certificates, at this moment: public keys as they stand in certificates. */
  readonly authorities: () => Promise<readonly Uint8Array[]>
  /** What hosts' names end in, without the dot before it; empty: anything. */
  readonly canonicalDomain: string
  /** What names agents; `undefined`: the fingerprint. */
  readonly agentPath: Template | undefined
  readonly now: () => Date
}

/** Seconds: no end. */
const forever = 0xffff_ffff_ffff_ffffn
const text = { kind: 'text' } as const

/** What `agent_path_template` of sshpop may read. */
export const sshAgentPathTemplate = agentPathTemplate(fieldsOf({
  PluginName: ownText, Fingerprint: ownText, Hostname: text, KeyId: text, Serial: ownText, ValidPrincipals: { kind: 'list', of: text }
}))

/**
 * SPIRE's `sshpop`, the server's half: the agent shows the certificate of its host's SSH server, and signs what it is asked to with that
 * certificate's key.
 */
export function createSshVerifier (config: SshVerifierConfig): NodeVerifier {
  return {
    name: 'sshpop',
    async verify (payload, exchange) {
      const certificate = parseSshCertificate(parsePayload(payload))
      checkHost(certificate, config.now())
      checkAuthority(certificate, await config.authorities())
      const name = nameOf(certificate, config)
      await challenge(certificate, exchange)
      return { ...name, selectors: [], canReattest: true }
    }
  }
}

function checkHost ({ kind, principals, criticalOptions, validAfter, validBefore }: SshCertificate, now: Date): void {
  if (kind !== 'host') throw refused('the certificate is a user\'s, and no host\'s')
  // To sshd it would be good for any host.
  if (principals.length === 0) throw refused('cert has no valid principals: make it for the host\'s name (ssh-keygen -n)')
  // There is none for hosts, so that whatever it says is not obeyed here.
  const [option] = criticalOptions
  if (option !== undefined) throw refused(`unsupported critical option ${JSON.stringify(option)} in certificate`)
  const seconds = BigInt(Math.floor(now.getTime() / 1000))
  if (seconds < validAfter) throw refused('cert is not yet valid')
  if (validBefore !== forever && seconds >= validBefore) throw refused('cert has expired')
}

/** SHA-1 is not believed of CAs: what it signs can be chosen by whoever asks for a certificate. */
function checkAuthority (certificate: SshCertificate, trusted: readonly Uint8Array[]): void {
  const isTrusted = trusted.some(one => Buffer.compare(one, certificate.authority) === 0)
  if (!isTrusted) throw refused('no authority that is believed signed the certificate')
  if (isSignedBy(authorityOf(certificate), certificate.signed, certificate.signature, { sha1: false })) return
  throw refused(certificate.signature.format === 'ssh-rsa'
    ? 'the CA signed with SHA-1: sign again with ssh-keygen -t rsa-sha2-512' : 'the certificate\'s signature does not verify')
}

function nameOf (certificate: SshCertificate, { agentPath, canonicalDomain }: SshVerifierConfig): VerifiedName {
  const fingerprint = createHash('sha256').update(certificate.raw).digest('base64url')
  const [principal] = certificate.principals as [string]
  const suffix = `.${canonicalDomain}`
  if (canonicalDomain !== '' && !principal.endsWith(suffix)) {
    throw refused(`cert principal ${JSON.stringify(principal.slice(0, 253))} is not in domain ${JSON.stringify(suffix)}`)
  }
  if (agentPath === undefined) return { idPath: fingerprint }
  return { agentPath: renderAgentPath(agentPath, {
    PluginName: 'sshpop', Fingerprint: fingerprint, KeyId: certificate.keyId, Serial: String(certificate.serial),
    Hostname: canonicalDomain === '' ? principal : principal.slice(0, -suffix.length), ValidPrincipals: certificate.principals
  }) }
}

async function challenge ({ subject }: SshCertificate, exchange: NodeExchange): Promise<void> {
  const nonce = randomBytes(nonceBytes)
  const answer = parseAnswer(await exchange.challenge(encodeChallenge(nonce)))
  // Agents of SPIRE sign so with RSA keys; of what is signed they choose no more than their own nonce.
  if (isSignedBy(subject, bothNonces(nonce, answer.nonce), answer.signature, { sha1: true })) return
  throw refused('failed to verify signature: the challenge was not signed by the certificate\'s key')
}

function refused (why: string): SpiffeError { return new SpiffeError('attestation_refused', `sshpop: ${why}`) }
