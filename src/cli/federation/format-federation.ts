import type { FederationRelationshipInit } from '../../wire/generated/types.ts'
import { formatRows } from '../pretty.ts'

/** The block for one relationship, after an empty line; rows and labels are SPIRE's. */
export function formatFederation ({ trustDomain = '', bundleEndpointUrl = '', httpsWeb, httpsSpiffe }: FederationRelationshipInit): string {
  const profile = httpsSpiffe !== undefined ? 'https_spiffe' : httpsWeb !== undefined ? 'https_web' : undefined
  return `\n${formatRows([
    ['Trust domain', trustDomain],
    ['Bundle endpoint URL', bundleEndpointUrl === '' ? undefined : bundleEndpointUrl],
    ['Bundle endpoint profile', profile],
    ['Endpoint SPIFFE ID', httpsSpiffe?.endpointSpiffeId]
  ], 26)}`
}
