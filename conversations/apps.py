from django.apps import AppConfig


class ConversationsConfig(AppConfig):
    name = "conversations"
    verbose_name = "Conversations"

    def ready(self) -> None:
        from conversations import retention, search
        from streaming import upkeep

        # Before the logs' own: what is removed need not be compacted.
        upkeep.CHORES[:0] = [*retention.CHORES, *search.CHORES]
