import { z } from 'zod'
import { parsedBy, text } from '../../runtime/config-schema.ts'
import { parseBundleEndpointUrl, type BundleEndpointProfile, type BundleEndpointUrl } from '../../spiffe/bundle-endpoint.ts'
import { partnerProfile } from './partner-profile.ts'

/** Where else a partner's bundle may be had while its endpoint fails. */
export type BundleCopy = CopyPlace & {
  /** Whether it is a JWS of the partner's own, which whoever keeps the copy cannot change (ADR 0027). */
  readonly signed: boolean
}

type CopyPlace =
  /** A mirror, or an object of a store. */
  | { readonly kind: 'endpoint', readonly url: BundleEndpointUrl, readonly profile: BundleEndpointProfile }
  | { readonly kind: 'file', readonly path: string }

/** Of one partner: each may take as long as a whole fetch. */
const mostCopies = 8

const copy = z.strictObject({
  bundle_endpoint_url: parsedBy(parseBundleEndpointUrl).optional(),
  bundle_endpoint_profile: partnerProfile.optional(),
  object_url: parsedBy(parseBundleEndpointUrl).optional(),
  file_path: text.optional(),
  signed: z.boolean().optional()
}).transform((value, context): BundleCopy => {
  const { bundle_endpoint_url: mirror, bundle_endpoint_profile: profile, object_url: object, file_path: path, signed = false } = value
  const refuse = (message: string, path: string[] = []) => {
    context.issues.push({ code: 'custom', path, message, input: undefined })
    return z.NEVER
  }
  if ([mirror, object, path].filter(place => place !== undefined).length !== 1) {
    return refuse('must have one of bundle_endpoint_url, object_url and file_path')
  }
  if (profile !== undefined && mirror === undefined) return refuse('belongs to bundle_endpoint_url', ['bundle_endpoint_profile'])
  if (path !== undefined) return { kind: 'file', path, signed }
  if (object !== undefined) {
    // Whoever keeps the store is rarely the partner.
    if (value.signed === false) return refuse('must be true for object_url: use bundle_endpoint_url for what is not signed', ['signed'])
    return { kind: 'endpoint', url: object, profile: { kind: 'https_web' }, signed: true }
  }
  if (profile === undefined) return refuse('is required', ['bundle_endpoint_profile'])
  return { kind: 'endpoint', url: mirror as BundleEndpointUrl, profile, signed }
})
/** Those of one partner, in the order in which they are asked. */
export const bundleCopies = z.preprocess(raw => Array.isArray(raw) ? raw : [raw],
  z.array(copy).max(mostCopies, `must be at most ${mostCopies}`))
