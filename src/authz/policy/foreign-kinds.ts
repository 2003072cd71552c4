import { istioDocuments } from '../istio/istio-documents.ts'
import type { ForeignDocuments } from './read-policies.ts'

/** Kinds of policy documents besides Assay's own that servers, agents and commands read alike. */
export const foreignKinds: readonly ForeignDocuments[] = [istioDocuments()]
