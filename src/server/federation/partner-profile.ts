import { z } from 'zod'
import { parsedBy } from '../../runtime/config-schema.ts'
import type { BundleEndpointProfile } from '../../spiffe/bundle-endpoint.ts'
import { parseSpiffeId } from '../../spiffe/spiffe-id.ts'
import { labelledBlocks } from '../labelled-blocks.ts'

/** A block without keys; in YAML and HCL nothing at all is one too. */
export const empty = z.preprocess(raw => raw ?? {}, z.strictObject({}))

/** How the endpoint of a partner, or of a mirror, is known. */
export const partnerProfile = labelledBlocks({
  https_web: empty, https_spiffe: z.strictObject({ endpoint_spiffe_id: parsedBy(parseSpiffeId) })
}).transform(({ https_web: web, https_spiffe: spiffe }, context): BundleEndpointProfile => {
  if (web !== undefined && spiffe === undefined) return { kind: 'https_web' }
  if (spiffe !== undefined && web === undefined) return { kind: 'https_spiffe', endpointId: spiffe.endpoint_spiffe_id }
  context.issues.push({ code: 'custom', message: 'must be one of https_web and https_spiffe', input: undefined })
  return z.NEVER
})
