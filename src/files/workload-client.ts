import type { ClientOf } from '../rpc/channel.ts'
import type { workloadService } from '../wire/generated/workload.ts'

export type WorkloadClient = ClientOf<typeof workloadService.methods>

/** Every call of the Workload API carries this (WLE-04). */
export const metadata = { 'workload.spiffe.io': 'true' }
