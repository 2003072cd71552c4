/** In the order in which they are told. */
export type Labels = Readonly<Record<string, string>>

/** A place where metrics are told. No method waits or throws. */
export interface MetricSink {
  /** @param name with its prefix, `.` between its parts, e.g. `spire_server.rpc.agent.v1.agent.attest_agent` */
  count (name: string, by: number, labels: Labels): void
  /** @param value milliseconds, or how many there were */
  sample (name: string, value: number, labels: Labels): void
  gauge (name: string, value: number, labels: Labels): void
}
