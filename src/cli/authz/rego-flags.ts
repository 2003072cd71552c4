import { readFileSync } from 'node:fs'
import type { SignatureVerification, VerificationKey } from '../../authz/rego/bundle-signature.ts'
import type { BundlesConfig } from '../../authz/standalone/open-bundles.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

export interface RegoFlags {
  readonly rego: Readonly<Record<string, string>>
  readonly regoKey: Readonly<Record<string, string>>
  readonly entrypoint: readonly string[]
  readonly opa: string | undefined
}

const algorithms: readonly string[] = ['ES', 'RS', 'PS', 'HS'].flatMap(kind => ['256', '384', '512'].map(bits => kind + bits))

/** @throws {SpiffeError} `usage_invalid`, `file_unusable` */
export function regoOfFlags ({ rego, regoKey, entrypoint, opa }: RegoFlags): BundlesConfig | undefined {
  if (Object.keys(rego).length > 0) return { sources: rego, opaPath: opa, entrypoints: entrypoint, verification: verificationOf(regoKey) }
  if (Object.keys(regoKey).length + entrypoint.length === 0 && opa === undefined) return undefined
  throw new SpiffeError('usage_invalid', '-regoKey, -entrypoint and -opa are for bundles: -rego names none')
}

function verificationOf (keys: RegoFlags['regoKey']): SignatureVerification | undefined {
  const entries = Object.entries(keys)
  return entries.length === 0 ? undefined : { keys: Object.fromEntries(entries.map(([text, file]) => keyOf(text, file))) }
}

function keyOf (text: string, file: string): [string, VerificationKey] {
  const [id = '', algorithm = '', ...rest] = text.split(':')
  if (id === '' || rest.length > 0 || !algorithms.includes(algorithm)) {
    throw new SpiffeError('usage_invalid', `-regoKey must be ID:ALGORITHM=FILE with one of ${algorithms.join(', ')}`)
  }
  try {
    return [id, { algorithm: algorithm as VerificationKey['algorithm'], key: readFileSync(file, 'utf8') }]
  } catch (cause) {
    throw new SpiffeError('file_unusable', `cannot read ${file}: ${(cause as Error).message}`, { cause })
  }
}
