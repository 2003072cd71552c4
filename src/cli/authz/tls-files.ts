import { readFileSync, statSync } from 'node:fs'
import type { ServingTls } from '../../authz/standalone/serve-authz.ts'
import type { CallerPattern } from '../../spiffe/caller-pattern.ts'
import { callersDomain, isCaller } from '../../spiffe/caller-pattern.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, trustDomainOf } from '../../spiffe/spiffe-id.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import { decodePem } from '../../x509/pem.ts'
import { readBundleText } from '../read-bundle.ts'

export interface TlsFiles { readonly svid: string, readonly key: string, readonly bundle: string }

/** Of flags. @throws {SpiffeError} `usage_invalid` when some are given and others are not */
export function tlsFilesOf (
  { svid, svidKey: key, bundle }: { readonly [flag in 'svid' | 'svidKey' | 'bundle']: string | undefined }
): TlsFiles | undefined {
  if (svid !== undefined && key !== undefined && bundle !== undefined) return { svid, key, bundle }
  if ((svid ?? key ?? bundle) === undefined) return undefined
  throw new SpiffeError('usage_invalid', '-svid, -svidKey and -bundle belong together')
}

/**
 * An X509-SVID and a bundle in files, as SPIFFE's helpers write them, read again when they change.
 * @param callers who may ask; none: whoever is of the bundle's trust domain
 * @throws {SpiffeError} `file_unusable`, `certificate_malformed`, `usage_invalid`
 */
export function tlsOfFiles (files: TlsFiles, callers: readonly CallerPattern[]): ServingTls {
  const stateNow = () => Object.values(files).map(stateOf).join()
  // Taken first: what changes while it is read, or before anybody asks for it anew, is noticed later.
  let seen = stateNow()
  let current = read(files)
  const foreign = callers.find(pattern => callersDomain(pattern) !== current.bundle.trustDomain)
  if (foreign !== undefined) {
    throw new SpiffeError('usage_invalid', `-callers ${foreign} is not of ${current.bundle.trustDomain}, whose bundle it is`)
  }
  return {
    renew () {
      const now = stateNow()
      if (now === seen) return false
      current = read(files)
      seen = now
      return true
    },
    identity: () => current.identity,
    bundleOf: trustDomain => trustDomain === current.bundle.trustDomain ? current.bundle : undefined,
    acceptClient ({ id }) {
      if (callers.length === 0 || callers.some(pattern => isCaller(pattern, id))) return
      throw new SpiffeError('peer_unauthenticated', `${id} may not ask here: -callers does not name it`)
    }
  }
}

function read ({ svid, key, bundle }: TlsFiles) {
  const chain = decodePem(textOf(svid), 'CERTIFICATE')
  const [privateKey] = decodePem(textOf(key), 'PRIVATE KEY')
  const [leaf] = chain
  if (leaf === undefined) throw new SpiffeError('file_unusable', `${svid} has no certificate in PEM`)
  if (privateKey === undefined) throw new SpiffeError('file_unusable', `${key} has no private key in PEM (PKCS#8)`)
  const [id] = parseCertificate(leaf).uriSans
  if (id === undefined) throw new SpiffeError('file_unusable', `${svid} is no X509-SVID: its certificate has no URI name`)
  const trustDomain = trustDomainOf(parseSpiffeId(id))
  return { identity: { chain, privateKey }, bundle: readBundleText(textOf(bundle), { name: bundle, trustDomain }) }
}

/** Of no file too: who reads it says that there is none. */
function stateOf (path: string): string {
  const { mtimeMs, size, ino } = statSync(path, { throwIfNoEntry: false }) ?? {}
  return `${mtimeMs} ${size} ${ino}`
}

function textOf (path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(cause as Error).message}`, { cause })
  }
}
