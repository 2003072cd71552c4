import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { DistinguishedName } from '../x509/distinguished-name.ts'
import type { X509Extension } from '../x509/extra-extensions.ts'

/** What may be changed of a CA's certificate. */
export interface X509CaAttributes {
  readonly subject: DistinguishedName
  /** Object identifiers in dots. */
  readonly policies: readonly string[]
  readonly extensions: readonly X509Extension[]
}

/** What may be changed of an X509-SVID. */
export interface X509SvidAttributes {
  readonly subject: DistinguishedName
  readonly dnsNames: readonly string[]
  readonly extensions: readonly X509Extension[]
}

/** Claims of a JWT-SVID as JSON has them; times in seconds since 1970. */
export type JwtSvidClaimSet = Readonly<Record<string, unknown>>

/** Whose certificate it is to be. */
export interface SvidSubject {
  readonly id: SpiffeId
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
}

/**
 * SPIRE's plugin type `CredentialComposer`: changes what a server is about to sign. Each is given what the one before it left; one without
 * a method leaves things as they are. Whatever it throws keeps the credential from being issued; what it makes of it is checked.
 */
export interface CredentialComposer extends AsyncDisposable {
  /** For messages. */
  readonly name: string
  /** The server's own CA, self-signed or for an upstream to sign, and those of nested servers. */
  composeServerX509Ca? (attributes: X509CaAttributes): Promise<X509CaAttributes>
  /** What the server shows to its callers. */
  composeServerX509Svid? (attributes: X509SvidAttributes): Promise<X509SvidAttributes>
  composeAgentX509Svid? (attributes: X509SvidAttributes, agent: SvidSubject): Promise<X509SvidAttributes>
  composeWorkloadX509Svid? (attributes: X509SvidAttributes, workload: SvidSubject): Promise<X509SvidAttributes>
  composeWorkloadJwtSvid? (claims: JwtSvidClaimSet, id: SpiffeId): Promise<JwtSvidClaimSet>
}
