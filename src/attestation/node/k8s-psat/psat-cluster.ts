/** What a server knows of one cluster whose agents it takes. */
export interface PsatCluster {
  /** `namespace:name` of the service accounts that agents run as. */
  readonly serviceAccounts: ReadonlySet<string>
  /** One of these must be a token's. */
  readonly audiences: readonly string[]
  /** `undefined`: the cluster that the server runs in. */
  readonly kubeconfig: string | undefined
  /** Labels that become selectors. */
  readonly nodeLabels: ReadonlySet<string>
  readonly podLabels: ReadonlySet<string>
  /** Agents are named by their pod instead of their node: two on one node do not take each other's place. */
  readonly namedByPod: boolean
}
