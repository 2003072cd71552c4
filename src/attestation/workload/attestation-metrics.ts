import type { Metrics } from '../../runtime/metrics.ts'

export type AttestationOutcome = 'ok' | 'failed'

/** What is counted of workload attestation. */
export interface AttestationMetrics {
  /** One attestor has ended. @param error why it failed */
  attestor (name: string, outcome: AttestationOutcome, durationMs: number, error?: unknown): void
  /** One caller has been attested by all of them, or not. @param error why not */
  workload (outcome: AttestationOutcome, selectors: number, durationMs: number, error?: unknown): void
}

/** Tells all of them. */
export function allOf (books: readonly AttestationMetrics[]): AttestationMetrics {
  return {
    attestor (...facts) { for (const book of books) book.attestor(...facts) },
    workload (...facts) { for (const book of books) book.workload(...facts) }
  }
}

export function attestationMetrics (metrics: Metrics): AttestationMetrics {
  const attestors = metrics.histogram({
    name: 'workload_attestor_seconds', help: 'Time each workload attestor took', labels: ['attestor', 'outcome']
  })
  const workloads = metrics.histogram({ name: 'workload_attestation_seconds', help: 'Time to attest a caller', labels: ['outcome'] })
  const selectors = metrics.histogram({
    name: 'workload_discovered_selectors', help: 'Selectors found for a caller', buckets: [1, 2, 5, 10, 20, 50, 100, 200]
  })
  return {
    attestor: (attestor, outcome, durationMs) => attestors.observe(durationMs / 1000, { attestor, outcome }),
    workload (outcome, found, durationMs) {
      workloads.observe(durationMs / 1000, { outcome })
      if (outcome === 'ok') selectors.observe(found)
    }
  }
}
