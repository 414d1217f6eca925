# What marketd needs in the seller's account: a role to be called by, a queue for AWS Marketplace's news, and alarms.
# Apply it with a provider in us-east-1, where AWS Marketplace's topics and events are.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "marketd_account_id" {
  description = "The account that marketd runs in."
  type        = string
  default     = "{{account}}"
}

variable "marketd_principal_arns" {
  description = "The role or user that marketd runs as there, and nobody else; what ends in \":*\" is any of the account."
  type        = list(string)
  # A name is one role's in an account, whatever its path.
  default = {{principals}}
}

variable "external_id" {
  description = "What marketd shows when it assumes the role."
  type        = string
  default     = "{{external_id}}"
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told of alarms."
  type        = list(string)
  default     = []
}

data "aws_partition" "current" {}
data "aws_caller_identity" "seller" {}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${var.marketd_account_id}:root"]
    }
    condition {
      test     = "StringEquals"
      variable = "sts:ExternalId"
      values   = [var.external_id]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:PrincipalArn"
      values   = var.marketd_principal_arns
    }
  }
}

data "aws_iam_policy_document" "role" {
  statement {
    actions = [
{{marketplace_actions}}
    ]
    resources = ["*"]
  }
  statement {
    actions   = ["{{describe_entity}}"]
    resources = ["arn:${data.aws_partition.current.partition}:aws-marketplace:*:${data.aws_caller_identity.seller.account_id}:AWSMarketplace/SaaSProduct/*"]
  }
  statement {
    actions   = ["{{search_agreements}}"]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "aws-marketplace:PartyType"
      values   = ["Proposer"]
    }
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws-marketplace:AgreementType"
      values   = ["PurchaseAgreement"]
    }
  }
  statement {
    actions   = ["{{get_agreement_entitlements}}"]
    resources = ["*"]
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws-marketplace:AgreementType"
      values   = ["PurchaseAgreement"]
    }
  }
  statement {
    actions = [
{{queue_actions}}
    ]
    resources = [aws_sqs_queue.marketd.arn]
  }
}

resource "aws_iam_role" "marketd" {
  name_prefix        = "marketd-"
  description        = "marketd: meters usage and reads entitlements, listings and agreements"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "marketd" {
  name   = "marketd"
  role   = aws_iam_role.marketd.id
  policy = data.aws_iam_policy_document.role.json
}

resource "aws_sqs_queue" "dead_letters" {
  name_prefix               = "marketd-dead-letters-"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue" "marketd" {
  name_prefix                = "marketd-"
  sqs_managed_sse_enabled    = true
  message_retention_seconds  = 1209600
  visibility_timeout_seconds = 60
  receive_wait_time_seconds  = 20
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 20
  })
}

data "aws_iam_policy_document" "queue" {
{{#topics}}
  statement {
    sid       = "MarketplaceTopics"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.marketd.arn]
    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values = [
{{topic_arns}}
      ]
    }
  }
{{/topics}}
  statement {
    sid       = "MarketplaceEvents"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.marketd.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.marketd.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "marketd" {
  queue_url = aws_sqs_queue.marketd.id
  policy    = data.aws_iam_policy_document.queue.json
}

resource "aws_cloudwatch_event_rule" "marketd" {
  name_prefix   = "marketd-"
  description   = "AWS Marketplace's agreements and licences, for marketd"
  event_pattern = jsonencode({ source = ["aws.agreement-marketplace"] })
}

resource "aws_cloudwatch_event_target" "marketd" {
  rule = aws_cloudwatch_event_rule.marketd.name
  arn  = aws_sqs_queue.marketd.arn
}
{{subscriptions}}

resource "aws_cloudwatch_metric_alarm" "old_news" {
  alarm_name          = "${aws_sqs_queue.marketd.name}-old-news"
  alarm_description   = "News from AWS Marketplace waits for marketd to read it"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.marketd.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 3
  threshold           = 900
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "undelivered_news" {
  alarm_name          = "${aws_sqs_queue.dead_letters.name}-undelivered-news"
  alarm_description   = "marketd could not take in some news from AWS Marketplace"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
}

output "role_arn" {
  description = "For `marketd integration connect --role-arn`"
  value       = aws_iam_role.marketd.arn
}

output "queue_url" {
  description = "For marketd's setting queue.url"
  value       = aws_sqs_queue.marketd.id
}
