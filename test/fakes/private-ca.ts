import { AwsJsonService } from '../../src/aws/aws-json-service.ts'

export const region = 'eu-central-1'

/** What AWS Private CA is asked by an operator, with the credentials of the environment. @param endpoint moto's */
export async function operatePrivateCa (endpoint: string, action: string, question: object): Promise<Readonly<Record<string, string>>> {
  await using pca = await AwsJsonService.open({ region, endpoint }, { host: 'acm-pca', target: 'ACMPrivateCA' })
  return await pca.call(action, question, new AbortController().signal) as Record<string, string>
}

/** A root that may sign. @returns its ARN */
export async function makePrivateCa (endpoint: string, name: string): Promise<string> {
  const operate = (action: string, question: object) => operatePrivateCa(endpoint, action, question)
  const made = await operate('CreateCertificateAuthority', {
    CertificateAuthorityType: 'ROOT',
    CertificateAuthorityConfiguration: { KeyAlgorithm: 'RSA_2048', SigningAlgorithm: 'SHA256WITHRSA', Subject: { CommonName: name } }
  })
  const CertificateAuthorityArn = made['CertificateAuthorityArn'] as string
  const { Csr } = await operate('GetCertificateAuthorityCsr', { CertificateAuthorityArn })
  const { CertificateArn } = await operate('IssueCertificate', {
    CertificateAuthorityArn, Csr: Buffer.from(Csr as string).toString('base64'), SigningAlgorithm: 'SHA256WITHRSA',
    TemplateArn: 'arn:aws:acm-pca:::template/RootCACertificate/V1', Validity: { Type: 'DAYS', Value: 365 }
  })
  const { Certificate } = await operate('GetCertificate', { CertificateAuthorityArn, CertificateArn })
  await operate('ImportCertificateAuthorityCertificate', {
    CertificateAuthorityArn, Certificate: Buffer.from(Certificate as string).toString('base64')
  })
  return CertificateAuthorityArn
}
