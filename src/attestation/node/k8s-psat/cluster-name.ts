import { z } from 'zod'

/** It becomes a segment of agents' IDs (SPIFFE-ID §2.2). */
export const clusterName = z.string().regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,255}$/, 'must be a name of A-Z a-z 0-9 . - _')

/** Why service account tokens that never expire are no proof, and what is. */
export const satRefusal = 'is not offered, since such tokens live for ever and name no node; project a token into the agent\'s pod ' +
  '(volumes: projected: serviceAccountToken, audience spire-server) and use k8s_psat, which has the same keys: docs/kubernetes.md'
