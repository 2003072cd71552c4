import { bundleService } from '../../wire/generated/server-bundle.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import type { AuthorityKind } from '../authority/authority-calls.ts'
import type { Servers } from '../servers.ts'
import type { Terminal } from '../terminal.ts'

/** IDs of authorities that the bundle holds beside the given ones: put there from outside, or older than what can still be revoked. */
export async function leftInBundle (
  servers: Servers, { signal }: Terminal, kind: AuthorityKind, known: readonly (string | undefined)[]
): Promise<string[]> {
  const bundle = await servers.ask(channel => channel.client(bundleService).getBundle({}, { signal, timeoutMs: 10_000 }))
  const ids = kind === 'jwt'
    ? bundle.jwtAuthorities.map(({ keyId }) => keyId)
    : bundle.x509Authorities.map(({ asn1 }) => Buffer.from(parseCertificate(asn1).subjectKeyId ?? []).toString('hex'))
  return ids.filter(id => !known.includes(id))
}
