import { SpiffeError } from '../spiffe/errors.ts'
import { encodePem } from '../x509/pem.ts'
import { parseCertificate } from '../x509/certificate.ts'
import type { WantedFiles } from './files-config.ts'
import type { Material } from './material.ts'
import type { X509Material } from './x509-material.ts'

/** @param mode permissions, whatever the umask */
export interface FileContent { readonly content: Buffer, readonly mode: number }

/** By name. `undefined`: what it is to hold is not known yet, and what is there stays. */
export type FileSet = ReadonlyMap<string, FileContent | undefined>

/** What the files are to hold, in the forms that spiffe-helper gives them. @param now for `omit_expired` */
export function fileSetOf (wanted: WantedFiles, { x509, jwtBundles, jwtSvids }: Material, now: Date): FileSet {
  const { modes } = wanted
  const set = new Map<string, FileContent | undefined>()
  const put = (name: string, text: string | undefined, mode: number) => {
    set.set(name, text === undefined ? undefined : { content: Buffer.from(text), mode })
  }
  if (wanted.x509 !== undefined) {
    put(wanted.x509.svid, x509 && pemOf(wanted.addIntermediatesToBundle ? x509.chain.slice(0, 1) : x509.chain), modes.certificate)
    put(wanted.x509.key, x509 && encodePem('PRIVATE KEY', x509.privateKey), modes.key)
    put(wanted.x509.bundle, x509 && pemOf(bundleOf(wanted, x509, now)), modes.certificate)
  }
  for (const { trustDomain, fileName } of wanted.federatedBundles) {
    // A partner that is not federated with any more: nobody of it is to be believed.
    put(fileName, x509 && pemOf(living(wanted, x509.federated.get(trustDomain) ?? [], now)), modes.certificate)
  }
  if (wanted.jwtBundle !== undefined) put(wanted.jwtBundle, jwtBundles && jwtBundleText(jwtBundles), modes.jwtBundle)
  for (const { fileName } of wanted.jwtSvids) put(fileName, jwtSvids.get(fileName), modes.jwtSvid)
  return set
}

function bundleOf (wanted: WantedFiles, x509: X509Material, now: Date): readonly Uint8Array[] {
  const own = living(wanted, x509.authorities, now)
  return [
    ...own,
    ...wanted.addIntermediatesToBundle ? x509.chain.slice(1) : [],
    ...wanted.includeFederatedDomains ? [...x509.federated.values()].flatMap(authorities => living(wanted, authorities, now)) : []
  ]
}

/** By a clock that is wrong all may have expired: then they are all left in. */
function living ({ omitExpired }: WantedFiles, authorities: readonly Uint8Array[], now: Date): readonly Uint8Array[] {
  if (!omitExpired) return authorities
  const left = authorities.filter(der => notAfterOf(der) > now)
  return left.length === 0 ? authorities : left
}

function notAfterOf (der: Uint8Array): Date {
  try {
    return parseCertificate(der).notAfter
  } catch (error) {
    // Not for us to judge.
    if (error instanceof SpiffeError) return new Date(8.64e15)
    throw error
  }
}

/** A JWK Set in base64 for each trust domain's name. */
function jwtBundleText (bundles: ReadonlyMap<string, Uint8Array>): string {
  const entries = [...bundles].toSorted(([a], [b]) => a < b ? -1 : 1)
  return JSON.stringify(Object.fromEntries(entries.map(([name, keys]) => [name, Buffer.from(keys).toString('base64')])))
}

function pemOf (certificates: readonly Uint8Array[]): string {
  return certificates.map(der => encodePem('CERTIFICATE', der)).join('')
}
