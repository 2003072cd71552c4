import { z } from 'zod'
import { signedBundleLimits } from '../../federation/signed-bundle/signed-bundle.ts'
import { durationSeconds, wholeSeconds } from '../../runtime/config-schema.ts'
import { bundleObject, formatBundleDocument } from '../../spiffe/bundle-document.ts'
import { formatJson } from '../../spiffe/format-json.ts'
import { encodePem } from '../../x509/pem.ts'
import type { OwnBundleNow } from './bundle-publisher.ts'

/** `signed` is ours (ADR 0027), the others are SPIRE's. */
const bundleFormats = ['spiffe', 'jwks', 'pem', 'signed'] as const

export interface BundleFormat {
  readonly format: typeof bundleFormats[number]
  /** In place of the bundle's own, in `spiffe`. */
  readonly refreshHintSeconds?: number | undefined
  /** How long partners take what is `signed`. */
  readonly ttlSeconds?: number
}

/** Of places where what is signed may lie; the interval has to leave time for trying again. */
export const renewalKeys = {
  format: z.enum(bundleFormats, `must be one of ${bundleFormats.join(', ')}`),
  refresh_hint: durationSeconds(1_000).optional(),
  ttl: wholeSeconds.default(signedBundleLimits.usualTtlSeconds),
  interval: durationSeconds(1_000).default(600)
}

/** For `check` of a schema with `renewalKeys`. */
export function checkRenewal (
  { ttl, interval }: { readonly ttl: number, readonly interval: number }, refuse: (key: string, rule: string) => void
): void {
  if (ttl > signedBundleLimits.mostTtlSeconds) refuse('ttl', 'must be 168h at most')
  if (interval * 2 > ttl) refuse('interval', 'must be at most half of ttl: one that fails must not leave what has ended')
}

const contentTypes: Readonly<Record<BundleFormat['format'], string>> = {
  spiffe: 'application/json', jwks: 'application/jwk-set+json', pem: 'application/x-pem-file', signed: 'application/jose'
}

/** @throws {SpiffeError} of `sign` */
export async function formatOwnBundle (
  { bundle, sign }: OwnBundleNow, { format, refreshHintSeconds, ttlSeconds = signedBundleLimits.usualTtlSeconds }: BundleFormat
): Promise<{ readonly text: string, readonly contentType: string }> {
  const contentType = contentTypes[format]
  switch (format) {
    case 'pem': {
      return { contentType, text: bundle.x509Authorities.map(({ certificate }) => encodePem('CERTIFICATE', certificate)).join('') }
    }
    case 'spiffe': {
      const hinted = refreshHintSeconds === undefined ? bundle : { ...bundle, refreshHintSeconds }
      return { contentType, text: formatBundleDocument(hinted) }
    }
    case 'signed': return { contentType, text: await sign(ttlSeconds) }
    default: {
      const { keys } = bundleObject(bundle) as { readonly keys: readonly Readonly<Record<string, unknown>>[] }
      const withoutUse = (key: Readonly<Record<string, unknown>>) =>
        Object.fromEntries(Object.entries(key).filter(([name]) => name !== 'use'))
      return { contentType, text: formatJson({ keys: keys.map(withoutUse) }) }
    }
  }
}
