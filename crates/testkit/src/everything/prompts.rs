//! The prompts: plain, with arguments, with embedded content, and one that asks the user first.

use rmcp::ErrorData;
use rmcp::model::{
    ContentBlock, GetPromptResponse, GetPromptResult, Prompt, PromptArgument, PromptMessage, ResourceContents, Role,
};

use super::ask::{Asked, ask, field, form};
use super::call::Call;
use super::content::PNG;

/// All prompts in list order.
pub(super) fn list() -> Vec<Prompt> {
    let argument =
        |name: &str| PromptArgument::new(name).with_description(format!("the value of {name}")).with_required(true);
    let prompt = |name: &str, what: &str, arguments: Vec<PromptArgument>| {
        let arguments = (!arguments.is_empty()).then_some(arguments);
        Prompt::new(name, Some(what), arguments)
    };
    vec![
        prompt("test_simple_prompt", "a prompt without arguments", vec![]),
        prompt("test_prompt_with_arguments", "a prompt with two arguments", vec![argument("arg1"), argument("arg2")]),
        prompt("test_prompt_with_embedded_resource", "a prompt that carries a resource", vec![argument("resourceUri")]),
        prompt("test_prompt_with_image", "a prompt that carries an image", vec![]),
        prompt("test_input_required_result_prompt", "a prompt that asks the user before it answers", vec![]),
    ]
}

/// Answers `prompts/get`.
pub(super) async fn get(call: &Call) -> Result<GetPromptResponse, ErrorData> {
    let user = |content: ContentBlock| PromptMessage::new(Role::User, content);
    let messages = match call.name.as_str() {
        "test_simple_prompt" => vec![user(ContentBlock::text("This is a simple prompt for testing."))],
        "test_prompt_with_arguments" => {
            let (arg1, arg2) = (call.text("arg1")?, call.text("arg2")?);
            let text = format!("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'");
            vec![user(ContentBlock::text(text))]
        }
        "test_prompt_with_embedded_resource" => {
            let uri = call.text("resourceUri")?;
            let resource = ResourceContents::text("Embedded resource content for testing.", uri);
            vec![
                user(ContentBlock::resource(resource)),
                user(ContentBlock::text("Please process the embedded resource above.")),
            ]
        }
        "test_prompt_with_image" => vec![
            user(ContentBlock::image(PNG, "image/png")),
            user(ContentBlock::text("Please analyze the image above.")),
        ],
        "test_input_required_result_prompt" => {
            let question = form("What context should the prompt use?", "context", "string");
            match ask(call, vec![vec![("user_context", question)]]).await? {
                Asked::Pending(result) => return Ok(result.into()),
                Asked::Answers(answers) => {
                    let context = field(&answers, "user_context", "context");
                    vec![user(ContentBlock::text(format!("Prompt with context: {context}")))]
                }
            }
        }
        other => {
            let message = format!("unknown prompt: {other}");
            return Err(ErrorData::invalid_params(message, None));
        }
    };
    Ok(GetPromptResult::new(messages).into())
}
